"""Present another library's optimizer through the interface of torch's, which a watcher needs."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

Hook = Callable[..., Any]


class ForeignOptimizer(torch.optim.Optimizer):
    """Stands for another library's optimizer: its groups, and the moments around its step.

    It moves no weight. The callback calls `before_step` and `after_step` where the library's own
    optimizer steps, and the hooks of the watcher run then. `groups` returns torch's `param_groups`:
    dicts with "params", "lr" and "weight_decay". `accumulates`: it gathers the gradients of several
    passes in slots of its own, and averages them.
    """

    def __init__(
        self, groups: Callable[[], list[dict[str, Any]]], *, accumulates: bool = False
    ) -> None:
        self._groups, self.accumulates = groups, accumulates
        self._before: OrderedDict[int, Hook] = OrderedDict()
        self._after: OrderedDict[int, Hook] = OrderedDict()

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The library's groups as they are now."""
        return self._groups()

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Register a hook; the handle removes it again."""
        return _register(self._before, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Register a hook; the handle removes it again."""
        return _register(self._after, hook)

    def before_step(self) -> None:
        """Run the hooks that read the weights before the update."""
        _run(self._before.values(), self)

    def after_step(self) -> None:
        """Run the hooks that read the weights after the update."""
        _run(self._after.values(), self)


def _register(hooks: OrderedDict[int, Hook], hook: Hook) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def _run(hooks: Iterable[Hook], optimizer: ForeignOptimizer) -> None:
    for hook in list(hooks):
        hook(optimizer, (), {})
