"""Check that losses are finite without waiting for the device that computes them.

A GPU stays busy only if the host runs ahead of it; reading each loss before its update would stop
both at every step. So the device itself skips the update of a loss that is not finite, and all
later ones: a fused optimizer makes no update while its `found_inf` is 1, as with
torch.amp.GradScaler; the update of any other is undone. The host reads a loss `MAX_PENDING` losses
later, when its copy has arrived.
"""

from collections import deque
from collections.abc import Callable
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.data.batch import Batch
from thalweg.training.nonfinite import NonFiniteLossError

MAX_PENDING = 4  # losses on their way to the host; each keeps its batch in memory
Number = Callable[[], float]


class PendingLoss(NamedTuple):
    """A loss on its way to the host, with its step and batch."""

    number: Number  # waits until the copy has arrived
    step: int
    micro_batch: int
    batch: Batch


class DeferredLossCheck:
    """Skips all updates of an optimizer from the first loss on that is not finite."""

    def __init__(
        self, optimizer: Optimizer, send: Callable[[Tensor], Number] | None = None
    ) -> None:
        self._weights = [w.detach() for group in optimizer.param_groups for w in group["params"]]
        self._failed = self._weights[0].new_zeros((), dtype=torch.float32)  # 1 after a bad loss
        if honours_found_inf(optimizer):
            optimizer.found_inf = self._failed  # type: ignore[attr-defined]  # read by fused steps
        else:
            self._backup = [torch.empty_like(weight) for weight in self._weights]
            optimizer.register_step_pre_hook(self._back_up)
            optimizer.register_step_post_hook(self._undo)
        self._send = copy_to_host if send is None else send
        self._pending: deque[PendingLoss] = deque()

    def add(self, loss: Tensor, batch: Batch, *, step: int, micro_batch: int) -> None:
        """Add a loss before its update. Raises: NonFiniteLossError for an earlier loss."""
        loss = loss.detach()
        bad = (loss * 0).ne(0)  # NaN · 0 and ∞ · 0 are NaN
        torch.maximum(self._failed, bad, out=self._failed)
        self._pending.append(PendingLoss(self._send(loss), step, micro_batch, batch))
        if len(self._pending) > MAX_PENDING:
            self._read(self._pending.popleft())

    def check_all(self) -> None:
        """Wait for all pending losses. Raises: NonFiniteLossError for the first bad one."""
        while self._pending:
            self._read(self._pending.popleft())

    def _back_up(self, *_: object) -> None:
        torch._foreach_copy_(self._backup, self._weights)

    @torch.no_grad()
    def _undo(self, *_: object) -> None:
        failed = self._failed > 0
        for weight, backup in zip(self._weights, self._backup, strict=True):
            torch.where(failed, backup, weight, out=weight)

    def _read(self, pending: PendingLoss) -> None:
        if isfinite(loss := pending.number()):
            return
        self._pending.clear()  # computed with the same weights, and without updates
        raise NonFiniteLossError(
            loss, step=pending.step, micro_batch=pending.micro_batch, batch=pending.batch
        )


def check_loss(
    loss: Tensor, batch: Batch, *, deferred: DeferredLossCheck | None, step: int, micro_batch: int
) -> None:
    """Check the loss later; without `deferred` raise NonFiniteLossError for it at once."""
    if deferred is None:
        number = loss.item()
        raise NonFiniteLossError(number, step=step, micro_batch=micro_batch, batch=batch)
    deferred.add(loss, batch, step=step, micro_batch=micro_batch)


def deferred_loss_check(optimizer: Optimizer) -> DeferredLossCheck | None:
    """A deferred check on a GPU; None on the CPU, where reading a loss makes nobody wait."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    on_one_gpu = len({weight.device for weight in weights}) == 1 and weights[0].is_cuda
    return DeferredLossCheck(optimizer) if on_one_gpu else None


def honours_found_inf(optimizer: Optimizer) -> bool:
    """Return whether the optimizer skips its update while `found_inf` is 1 (GradScaler)."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def copy_to_host(loss: Tensor) -> Number:
    """Start to copy a scalar to the host; the returned function waits for it."""
    copy = loss.to("cpu", non_blocking=True, copy=True)  # from a GPU into pinned memory
    if not loss.is_cuda:
        return lambda: float(copy.numpy())
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(loss.device))

    def number() -> float:
        arrived.synchronize()
        return float(copy.numpy())

    return number
