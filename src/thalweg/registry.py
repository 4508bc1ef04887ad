"""A table of named things: filled in one place, read by name, extended by plug-ins."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from thalweg.errors import UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Read-only mapping of names to entries; plug-ins join through entry points.

    An entry's name is its attribute `name`, or else its `__name__`.
    """

    def __init__(
        self, kind: str, entries: Iterable[T], *, families: Mapping[str, Callable[[str], T]] = {}
    ) -> None:
        self.kind = kind
        self._group = f"thalweg.{_plural(kind)}"
        self._families = families  # prefix of a name → finder of such names elsewhere
        self._entries = {_name(entry): entry for entry in entries}

    def __getitem__(self, name: str) -> T:
        if name in self._entries:
            return self._entries[name]
        for prefix, find in self._families.items():
            if name.startswith(prefix):
                return find(name)
        for plugin in entry_points(group=self._group, name=name):
            return cast(T, plugin.load())
        raise unknown_name(self.kind, name, self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def with_plugins(self) -> Iterator[T]:
        """Yield the entries of this table, then those of other packages, loaded when reached."""
        yield from self._entries.values()
        for plugin in entry_points(group=self._group):
            yield cast(T, plugin.load())


def unknown_name(
    kind: str, name: str, valid: Iterable[str], *, close: Sequence[str] = ()
) -> UnknownNameError:
    """The error for a name in no table: lists the valid names, offers `close` or the nearest."""
    names = list(valid)
    close = close or get_close_matches(name, names, n=3)
    return UnknownNameError(
        f"no {kind} is called {name!r}",
        seen=f"the {len(names)} there are: {', '.join(names)}",
        fix=f"did you mean {' or '.join(close)}?" if close else f"use the name of one {kind}",
    )


def _name(entry: object) -> str:
    name = getattr(entry, "name", None) or getattr(entry, "__name__", None)
    assert isinstance(name, str), entry
    return name


def _plural(kind: str) -> str:
    """model → models, loss → losses, penalty → penalties."""
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith("s") else "s")
