"""The training loop. It yields after every update, so whatever else should happen
(logging, evaluation, checkpoints, stopping early) is plain code in the caller's `for` body.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from thalweg.data.batch import Batch, forward
from thalweg.optim.groups import decay_or_freeze
from thalweg.training.deferred_loss_check import DeferredLossCheck, check_loss
from thalweg.training.nonfinite import NonFiniteLossError

__all__ = ["NonFiniteLossError", "Step", "train"]


@dataclass(frozen=True, slots=True)
class Step:
    """One update. Tensors stay on their device: reading them is what waits for it."""

    index: int  # 0-based
    loss: Tensor  # scalar, mean over the update's samples at the weights before it; graph freed
    logits: Tensor  # of the last micro-batch, like the targets
    targets: Tensor
    lr_factor: float  # share of the peak learning rate


def train(
    model: nn.Module,
    batches: Iterator[Batch],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[float], float],
    steps: int,
    start: int = 0,
    accumulate: int = 1,
    max_grad_norm: float = 0.0,
    dtype: torch.dtype = torch.float32,
    penalty: Callable[[], Tensor] | None = None,
    deferred: DeferredLossCheck | None = None,
) -> Iterator[Step]:
    """Make updates `start` to `steps`, each from `accumulate` batches, yielding after each.

    `batches` must continue where update `start` begins. `dtype` is that of matrix products:
    float32 or bfloat16 (float16 would need loss scaling). The gradient of `penalty()` is added
    to the loss's, once an update; the loss of a step is that of the data alone. With `deferred`
    no step waits for its loss; the caller calls its `check_all` in the end.

    Raises: NonFiniteLossError before the update of a NaN or infinite loss; with `deferred` some
    steps later, with the weights of before that update.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    device = weights[0].device.type
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    exact = nullcontext()
    for index in range(start, steps):
        progress = (index + 0.5) / steps  # mid-step: no update is made at lr 0
        lr_factor = schedule(progress)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * lr_factor * decay_or_freeze(group, progress)

        if not model.training:
            model.train()
        total = None
        for micro_batch in range(accumulate):
            batch = next(batches)
            inputs, targets = batch
            with exact if dtype == torch.float32 else torch.autocast(device, dtype):
                logits = forward(model, inputs)
                loss = loss_fn(logits, targets)
            if accumulate > 1:
                loss = loss / accumulate
            loss.backward()
            if deferred is not None or not isfinite(loss.item()):
                check_loss(loss, batch, deferred=deferred, step=index, micro_batch=micro_batch)
            total = loss if total is None else total + loss

        if penalty is not None or max_grad_norm > 0:
            _adjust_gradients(model, penalty, max_grad_norm)
        optimizer.step()
        for weight in weights:  # what zero_grad() does, without its profiler range
            weight.grad = None
        assert total is not None
        yield Step(index, total, logits.detach(), targets, lr_factor)


def _adjust_gradients(
    model: nn.Module, penalty: Callable[[], Tensor] | None, max_grad_norm: float
) -> None:
    if penalty is not None:
        penalty().backward()
    if max_grad_norm > 0:
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
