"""Do something once a module has been imported, such as torch by the program itself.

To import it earlier would change the program: it may set OMP_NUM_THREADS before its own import.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def call_after_import(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` when the module has been imported; at once if it is already there."""
    if name in sys.modules:
        action()
        yield
        return
    finder = _Finder(name, action)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.remove()


class _Finder:
    """Finds the module as the other finders do, and has its loader call the action."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name, self._action = name, action

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, with a loader that calls the action; None for other modules."""
        if name != self._name:
            return None
        finders = (one for one in sys.meta_path if one is not self)
        specs = (one.find_spec(name, path, target) for one in finders)
        spec = next((one for one in specs if one is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = _Loader(spec.loader, self)
            spec.loader = loader
        return spec

    def finish(self) -> None:
        """Call the action: the module is there."""
        self.remove()
        self._action()

    def remove(self) -> None:
        """Find nothing any more."""
        finders: list[Any] = sys.meta_path
        if self in finders:
            finders.remove(self)


class _Loader:
    """Loads a module by its own loader, which is its loader again afterwards."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then the action."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._finder.finish()
