"""A table of builders: filled in one place, read by name, extended by plug-ins."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from thalweg.errors import UnknownNameError

T = TypeVar("T", bound=Callable[..., object])


class Registry(Mapping[str, T], Generic[T]):
    """Read-only mapping of names to builders; plug-ins join through entry points."""

    def __init__(
        self, kind: str, builders: Iterable[T], *, families: Mapping[str, Callable[[str], T]] = {}
    ) -> None:
        self.kind = kind
        self._families = families  # prefix of a name → finder of such names elsewhere
        self._builders = {builder.__name__: builder for builder in builders}

    def __getitem__(self, name: str) -> T:
        if name in self._builders:
            return self._builders[name]
        for prefix, find in self._families.items():
            if name.startswith(prefix):
                return find(name)
        for plugin in entry_points(group=f"thalweg.{_plural(self.kind)}", name=name):
            return cast(T, plugin.load())
        raise unknown_name(self.kind, name, self._builders)

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UnknownNameError:
    """The error for a name in no table: lists the valid names, offers the nearest."""
    names = list(valid)
    close = get_close_matches(name, names, n=3)
    return UnknownNameError(
        f"no {kind} is called {name!r}",
        seen=f"the {len(names)} there are: {', '.join(names)}",
        fix=f"did you mean {' or '.join(close)}?" if close else f"use the name of one {kind}",
    )


def _plural(kind: str) -> str:
    """model → models, loss → losses, penalty → penalties."""
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith("s") else "s")
