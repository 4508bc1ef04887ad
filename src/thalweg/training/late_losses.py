"""Whether the losses are finite, learned without waiting for the device that computes them.

A host that runs ahead keeps a GPU busy; reading each loss before its update would stop it at every
step. So the device itself holds back the update of a loss that is no number, and all that follow:
an optimizer that is fused makes none while its `found_inf` is 1, which is how torch.amp.GradScaler
has it skip; any other's is taken back. The host reads a loss `MOST_LATE` losses later, when its
copy has long arrived.
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

MOST_LATE = 4  # losses that are on their way to the host; each keeps its batch in memory
Number = Callable[[], float]


class Sent(NamedTuple):
    """A loss on its way, and where it is from."""

    number: Number  # waits until it is there
    step: int
    micro_batch: int
    batch: Batch


class LateLosses:
    """Has the updates of an optimizer held back from the first loss on that is no number."""

    def __init__(
        self, optimizer: Optimizer, send: Callable[[Tensor], Number] | None = None
    ) -> None:
        self._weights = [w.detach() for group in optimizer.param_groups for w in group["params"]]
        self._held = self._weights[0].new_zeros((), dtype=torch.float32)  # 1 from a bad loss on
        if skips(optimizer):
            optimizer.found_inf = self._held  # type: ignore[attr-defined]  # read by fused steps
        else:
            self._kept = [torch.empty_like(weight) for weight in self._weights]
            optimizer.register_step_pre_hook(self._keep)
            optimizer.register_step_post_hook(self._take_back)
        self._send = sent if send is None else send
        self._waiting: deque[Sent] = deque()

    def note(self, loss: Tensor, batch: Batch, *, step: int, micro_batch: int) -> None:
        """Before the update. Raises: NonFiniteLossError for the loss of `MOST_LATE` calls ago."""
        loss = loss.detach()
        bad = (loss * 0).ne(0)  # NaN · 0 and ∞ · 0 are NaN
        torch.maximum(self._held, bad, out=self._held)
        self._waiting.append(Sent(self._send(loss), step, micro_batch, batch))
        if len(self._waiting) > MOST_LATE:
            self._read(self._waiting.popleft())

    def settle(self) -> None:
        """Wait for all that is on its way. Raises: NonFiniteLossError for the first bad one."""
        while self._waiting:
            self._read(self._waiting.popleft())

    def _keep(self, *_: object) -> None:
        torch._foreach_copy_(self._kept, self._weights)

    @torch.no_grad()
    def _take_back(self, *_: object) -> None:
        bad = self._held > 0
        for weight, kept in zip(self._weights, self._kept, strict=True):
            torch.where(bad, kept, weight, out=weight)

    def _read(self, one: Sent) -> None:
        if isfinite(loss := one.number()):
            return
        self._waiting.clear()  # they were computed with the same weights, and led to no update
        raise NonFiniteLossError(loss, step=one.step, micro_batch=one.micro_batch, batch=one.batch)


def note(
    loss: Tensor, batch: Batch, *, late: LateLosses | None, step: int, micro_batch: int
) -> None:
    """Have it read later; without `late` raise NonFiniteLossError, as it has been read."""
    if late is None:
        number = loss.item()
        raise NonFiniteLossError(number, step=step, micro_batch=micro_batch, batch=batch)
    late.note(loss, batch, step=step, micro_batch=micro_batch)


def late_losses(optimizer: Optimizer) -> LateLosses | None:
    """Late losses on a GPU; None where each is read at once, as on the CPU, where nothing waits."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    on_one_gpu = len({weight.device for weight in weights}) == 1 and weights[0].is_cuda
    return LateLosses(optimizer) if on_one_gpu else None


def skips(optimizer: Optimizer) -> bool:
    """Whether it makes no update while `found_inf` is 1: GradScaler asks by the same name."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def sent(loss: Tensor) -> Number:
    """A copy of a scalar on its way to the host; calling what this returns waits for it."""
    copy = loss.to("cpu", non_blocking=True, copy=True)  # into pinned memory, where from a GPU
    if not loss.is_cuda:
        return lambda: float(copy.numpy())
    there = torch.cuda.Event()
    there.record(torch.cuda.current_stream(loss.device))

    def number() -> float:
        there.synchronize()
        return float(copy.numpy())

    return number
