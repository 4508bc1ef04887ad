"""A NaN or infinite loss or weight: the errors that stop a run, and the search for its origin."""

from collections.abc import Callable, Iterable
from itertools import chain

import torch
from torch import Tensor, nn

from thalweg.borrow import preserve_buffers, preserve_random_state
from thalweg.data.batch import Batch, forward
from thalweg.errors import TrainingError


class NonFiniteLossError(TrainingError):
    """The loss is NaN or infinite. Its update was not made."""

    def __init__(self, loss: float, *, step: int, micro_batch: int, batch: Batch) -> None:
        super().__init__(
            f"the loss of step {step} is {loss}",
            seen=f"micro-batch {micro_batch} of the step, {len(batch.targets)} samples",
            fix="resume from the last checkpoint with a lower learning rate",
        )
        self.loss, self.step, self.micro_batch, self.batch = loss, step, micro_batch, batch


class NonFiniteWeightsError(TrainingError):
    """A weight is NaN or infinite, so the model was not saved."""

    def __init__(self, weight: str, *, step: int) -> None:
        super().__init__(
            f"the weight {weight} is not finite after step {step - 1}",
            seen="NaN or infinity, so no checkpoint was written; the previous one is intact",
            fix="resume from the last checkpoint with a lower learning rate",
        )
        self.weight, self.step = weight, step


def nonfinite_weight(model: nn.Module) -> str:
    """Name of the first weight that holds NaN or infinity; "" if all are finite."""
    return _first_bad(model.named_parameters())


def first_nonfinite(
    model: nn.Module,
    batch: Batch,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Name the origin of the first NaN or infinity of a forward pass.

    One of "inputs", "targets", "weight 0.bias", "output of layer1.0.relu", "loss", or "" if all is
    finite. The model keeps its mode; buffers and random state are restored afterwards.
    """
    state = chain(model.named_parameters(), model.named_buffers())
    inputs = {"inputs": batch.inputs} if isinstance(batch.inputs, Tensor) else batch.inputs
    if bad := _first_bad([*inputs.items(), ("targets", batch.targets)]):
        return bad
    if bad := _first_bad(state):
        return f"weight {bad}"
    return _first_bad_output(model, batch, loss_fn, dtype=dtype)


def _first_bad_output(
    model: nn.Module,
    batch: Batch,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    dtype: torch.dtype,
) -> str:
    bad: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not bad and isinstance(output, Tensor) and not _finite(output):
                bad.append(f"output of {name or 'the model'}")

        return hook

    hooks = [m.register_forward_hook(watch(name)) for name, m in model.named_modules()]
    device = batch.targets.device
    try:
        cast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
        with torch.no_grad(), preserve_random_state(), preserve_buffers(model), cast:
            loss = loss_fn(forward(model, batch.inputs), batch.targets)
    finally:
        for hook in hooks:
            hook.remove()
    if bad:
        return bad[0]
    return "" if _finite(loss) else "loss"


def _first_bad(named: Iterable[tuple[str, Tensor]]) -> str:
    return next((name for name, tensor in named if not _finite(tensor)), "")


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())
