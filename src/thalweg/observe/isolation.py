"""Run a bare copy of the user's model without a trace: no compiler, no other rank, no writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg.borrow import preserve_random_state
from thalweg.observe.bare_copy import CannotCopyError
from thalweg.observe.compiler import eager

COLLECTIVES = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "symm_mem")


@contextmanager
def isolated(copy: nn.Module) -> Iterator[None]:
    """Let a `bare_copy` run: compiled functions run eagerly, and random state is restored.

    Raises CannotCopyError, before it happens, for an operation that waits for other ranks or writes
    into the weights, which are the user's own. Gradients are off.
    """
    guard = _Guard({key for weight in copy.parameters() if (key := _memory(weight)) is not None})
    with preserve_random_state(), eager(), torch.no_grad(), guard:
        yield


class _Guard(TorchDispatchMode):
    """Refuses operations that reach beyond the copy."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would load its compiler to have it skip this class, which takes a second."""
        return False

    def __init__(self, memories: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memories = memories

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace in COLLECTIVES:
            raise CannotCopyError("the model waits for other ranks as it runs", seen=str(func))
        if func._schema.is_mutable and self._writes_weight(func, args):
            raise CannotCopyError("the model writes into its weights as it runs", seen=str(func))
        return func(*args, **(kwargs or {}))

    def _writes_weight(self, func: Any, args: tuple[Any, ...]) -> bool:
        return any(
            isinstance(argument, Tensor)
            and slot.alias_info is not None
            and slot.alias_info.is_write
            and _memory(argument) in self._memories
            for slot, argument in zip(func._schema.arguments, args, strict=False)
        )


def _memory(tensor: Tensor) -> int | None:
    """Identity of the memory that a tensor lies in; None for sparse and wrapped ones."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None
