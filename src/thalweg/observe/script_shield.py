"""Hide the watcher's hooks from torch.jit.script, which cannot compile them.

The scripted module is the user's own: it would neither want nor run them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from thalweg.observe.guard import Hook

_RECURSIVE: Any = torch.jit._recursive
HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class ScriptShield:
    """Stands for the function that scripts a module while any module is watched."""

    def __init__(self) -> None:
        self._create: Callable[..., Any] | None = None
        self._watched = 0

    def enable(self) -> None:
        """Hide hooks from now on; once for each watched module."""
        self._watched += 1
        if self._create is None:
            self._create = _RECURSIVE.create_script_module
            _RECURSIVE.create_script_module = self

    def disable(self) -> None:
        """Give the function back when the last module is no longer watched."""
        self._watched -= 1
        if self._watched == 0 and _RECURSIVE.create_script_module is self:
            _RECURSIVE.create_script_module = self._create
            self._create = None

    def __call__(self, module: nn.Module, *arguments: Any, **keywords: Any) -> Any:
        assert self._create is not None
        with ExitStack() as stack:
            for one in module.modules():
                for table in HOOKS:
                    stack.enter_context(_without_ours(getattr(one, table)))
            return self._create(module, *arguments, **keywords)


@contextmanager
def _without_ours(hooks: dict[int, Any]) -> Iterator[None]:
    """Take the watcher's hooks out of a module's table, and put them back in their order."""
    entries = dict(hooks)
    for key, hook in entries.items():
        if isinstance(hook, Hook):
            del hooks[key]
    try:
        yield
    finally:
        if len(hooks) < len(entries):
            later = {key: hook for key, hook in hooks.items() if key not in entries}
            hooks.clear()
            hooks.update(entries | later)


SHIELD = ScriptShield()
