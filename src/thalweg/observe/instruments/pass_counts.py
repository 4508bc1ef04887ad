"""Passes that one update adds up, and the scale of the gradient that each of them sends back."""

from collections.abc import Callable, Mapping
from math import prod

from torch import Tensor

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.targets_from_gradient import class_axis, output_gradient
from thalweg.record import Quantity
from thalweg.record.quantities import (
    BACKWARD_PASSES,
    CALLED_WITH_GRADIENT,
    FORWARD_PASSES,
    GRADIENT_SCALE,
    UPDATES,
)

CERTAIN = 1e-6  # share left to the other classes of a row that no gradient reaches
SMALLEST = 1e-12  # keeps a batch that is fitted exactly from dividing by zero


@instrument(
    FORWARD_PASSES,
    BACKWARD_PASSES,
    UPDATES,
    CALLED_WITH_GRADIENT,
    GRADIENT_SCALE,
    when="loss",
    rare=True,
)
def pass_counts(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Counts of the hooks since the last step(), and the scale of the last backward pass."""
    passes = moment.passes
    measured: dict[Quantity, Measurements] = {UPDATES: {"": float(passes.updates)}}
    if passes.backwards and moment.counts_passes:
        measured[BACKWARD_PASSES] = {"": float(passes.backwards)}
    if passes.forwards:
        measured[FORWARD_PASSES] = {"": float(passes.forwards)}
        measured[CALLED_WITH_GRADIENT] = {
            name: float(name in passes.with_gradient) for name in moment.called
        }
    scale = _gradient_scale(moment)
    if scale is not None:
        measured[GRADIENT_SCALE] = {"": scale}
    return measured


def _gradient_scale(moment: Moment) -> Tensor | None:
    """∂(what was differentiated)/∂output over ∂(mean loss)/∂output: 1, or 1/K where divided.

    A gradient scaler, or reduction="sum", shows in it too. None for other losses. Where only a part
    of the predictions is kept, it stands for all of them.
    """
    forward, graph = moment.forward, moment.graph
    gradient = output_gradient(forward)
    if forward is None or graph is None or gradient is None or graph.composed or graph.broadcast:
        return None
    output = forward.output
    if output is None:
        return None
    if graph.kind == "mse" and moment.loss is not None:
        return _of_squares(gradient.float(), moment.loss, prod(forward.output_shape))
    if graph.kind not in SCALES:
        return None
    whole = prod(forward.output_shape) / max(1, output.numel())
    scale = SCALES[graph.kind](output.float(), gradient.float())
    return None if scale is None else scale * whole


def _of_squares(gradient: Tensor, loss: Tensor, count: int) -> Tensor:
    """The gradient is scale · 2d / N where the loss is Σd² / N: so Σg² = scale² · 4 · loss / N.

    1/√K where the loss was divided by K before it was passed on, 1/K where it is passed undivided.
    """
    whole = count / max(1, gradient.numel())
    mean = loss.detach().float().to(gradient.device).clamp_min(SMALLEST)
    return (gradient.square().sum() * whole * count / (4 * mean)).sqrt()


def _of_cross_entropy(output: Tensor, gradient: Tensor) -> Tensor | None:
    """The gradient is scale · (softmax − target) / N in each of the N rows that have a target."""
    axis = class_axis(gradient)
    if axis is None:
        return None
    rows, slopes = (each.movedim(axis, -1).flatten(0, -2) for each in (output, gradient))
    pulled = (slopes != 0).any(1)
    targets = slopes.argmin(1, keepdim=True)
    shares = rows.softmax(1)
    others = 1 - shares.gather(1, targets).squeeze(1)
    pull = -slopes.gather(1, targets).squeeze(1)
    expected = (others * pulled).sum().clamp_min(SMALLEST)
    certain = shares.amax(1) > 1 - CERTAIN  # right beyond doubt: a target, but no gradient
    return (pull * pulled).sum() / expected * (pulled | certain).sum()


def _of_binary_logits(output: Tensor, gradient: Tensor) -> Tensor | None:
    """The gradient is scale · (sigmoid − target) / N; a negative one shows a target of 1."""
    targets = (gradient < 0).float()
    errors = (output.sigmoid() - targets).abs() * (gradient != 0)  # 0 shows no target
    return gradient.abs().sum() / errors.sum().clamp_min(SMALLEST) * output.numel()


SCALES: dict[str, Callable[[Tensor, Tensor], Tensor | None]] = {
    "cross_entropy": _of_cross_entropy,
    "bce_with_logits": _of_binary_logits,
}
