"""An optimizer that is not torch's, in the words in which a watcher asks for one."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

Hook = Callable[..., Any]


class ForeignOptimizer(torch.optim.Optimizer):
    """Stands for another library's optimizer: its groups, and the moments around its step.

    It moves no weight. The callback calls `before_step` and `after_step` where the library's own
    optimizer steps, and the hooks of the watcher run then. `groups` gives what torch calls
    `param_groups`: dicts with "params", "lr" and "weight_decay".
    """

    def __init__(self, groups: Callable[[], list[dict[str, Any]]]) -> None:
        self._groups = groups
        self._before: OrderedDict[int, Hook] = OrderedDict()
        self._after: OrderedDict[int, Hook] = OrderedDict()

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The library's groups as they are now."""
        return self._groups()

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """A handle that removes the hook again."""
        return _registered(self._before, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """A handle that removes the hook again."""
        return _registered(self._after, hook)

    def before_step(self) -> None:
        """Run what wants to see the weights before the update."""
        _run(self._before.values(), self)

    def after_step(self) -> None:
        """Run what wants to see the weights after it."""
        _run(self._after.values(), self)


def _registered(hooks: OrderedDict[int, Hook], hook: Hook) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def _run(hooks: Iterable[Hook], optimizer: ForeignOptimizer) -> None:
    for hook in list(hooks):
        hook(optimizer, (), {})
