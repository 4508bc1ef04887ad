"""Read a batch's targets off the gradient at the model's output, where nobody passed them in."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.loss_graph import LossGraph
from thalweg.observe.lowest_entries import IGNORED, lowest_entries

TOLERANCE = 1e-3  # a target this near to a whole number is taken for it
ENTROPY_KINDS = ("cross_entropy", "nll", "nll_of_log", "nll_of_probability")
MOST_VALUES = 2**20  # of real targets, which take as much memory as the output
Inverse = Callable[[Tensor, Tensor], Tensor]  # (output, ∂Σ/∂output) -> targets

INVERSES: dict[str, tuple[Inverse, Callable[..., Tensor]]] = {
    "mse": (lambda output, slope: output - slope / 2, F.mse_loss),
    "bce": (lambda output, slope: output - slope * output * (1 - output), F.binary_cross_entropy),
    "bce_with_logits": (
        lambda output, slope: output.sigmoid() - slope,
        F.binary_cross_entropy_with_logits,
    ),
}


def targets_from_gradient(
    forward: ForwardPass | None, graph: LossGraph | None, loss: Tensor | None
) -> Tensor | None:
    """The last batch's targets, exact where the loss allows it; None elsewhere.

    Cross-entropy's gradient at the logits is (softmax − target) times a positive weight: negative
    at the target's class alone, and zero for a target that the loss ignores. Mean squared error's
    is 2(output − target) / n, a binary cross-entropy's (probability − target) / n.
    """
    gradient = output_gradient(forward)
    if forward is None or forward.output is None or gradient is None or graph is None:
        return None
    if graph.kind in ENTROPY_KINDS:
        return classes_from_gradient(gradient)
    output = forward.output
    if loss is None or graph.kind not in INVERSES or graph.broadcast or output.ndim > 2:
        return None
    if output.numel() > MOST_VALUES:
        return None
    inverse, loss_fn = INVERSES[graph.kind]
    values = output.double()
    targets = inverse(values, gradient.double() * (1 if graph.summed else output.numel()))
    if graph.kind != "mse" and not bool(((targets > -1e-2) & (targets < 1 + 1e-2)).all()):
        return None
    if graph.kind != "mse":
        targets = targets.clamp(0, 1)
    again = loss_fn(values, targets, reduction="sum" if graph.summed else "mean")
    fits = torch.isclose(again, loss.double().reshape(()), rtol=1e-3, atol=1e-9)
    return _rounded(targets) if bool(fits) else None


def output_gradient(forward: ForwardPass | None) -> Tensor | None:
    """∂loss/∂output of the one backward pass; None after several, or without any."""
    if forward is None or forward.output is None or len(forward.gradients) != 1:
        return None
    gradient = forward.gradients[0]
    return gradient if gradient.shape == forward.output.shape and gradient.ndim else None


def classes_from_gradient(gradient: Tensor) -> Tensor | None:
    """Class numbers, one for each row of logits; IGNORED where the row has no gradient.

    None unless exactly one entry of every other row is negative, which soft targets do not give.
    """
    axis = class_axis(gradient)
    if axis is None or gradient.shape[axis] < 2 or not gradient.shape[0]:
        return None
    most = max(1, MOST_VALUES // max(1, gradient[0].numel()))  # at once: a mask takes memory
    parts = [_classes_of(samples, axis) for samples in gradient.split(most)]
    if not bool(torch.stack([exact for _, exact in parts]).all()):
        return None
    return torch.cat([classes for classes, _ in parts])


def lowest_classes(forward: ForwardPass | None, graph: LossGraph | None) -> Tensor | None:
    """The class of the lowest gradient in each row: the likeliest target, also of smoothed ones."""
    gradient = output_gradient(forward)
    axis = None if gradient is None else class_axis(gradient)
    if gradient is None or axis is None or graph is None or graph.kind not in ENTROPY_KINDS:
        return None
    return lowest_entries(gradient, axis)


def class_axis(gradient: Tensor) -> int | None:
    """The dimension of the classes; None where the gradient is not a cross-entropy's.

    It sums to zero along it at logits, and is nowhere positive at (log-)probabilities.
    """
    if gradient.ndim < 2 or not len(gradient):
        return None
    sample = gradient[: max(1, MOST_VALUES // max(1, gradient[0].numel()))].float()
    axes = (1,) if gradient.ndim == 2 else (1, gradient.ndim - 1)
    sums = [sample.sum(axis).abs().sum() for axis in axes]
    size, highest, *rests = torch.stack([sample.abs().sum(), sample.max(), *sums]).tolist()
    if not size > 0 or (highest <= 0 and gradient.ndim > 2):
        return None
    rest, axis = min(zip(rests, axes, strict=True))
    return axis if highest <= 0 or rest < 1e-2 * size else None


def _classes_of(samples: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The class numbers, and if every row has one negative entry or no gradient."""
    negative = (samples < 0).sum(axis)
    silent = (negative == 0) & (samples.amax(axis) == 0)
    return torch.where(silent, IGNORED, samples.argmin(axis)), ((negative == 1) | silent).all()


def _rounded(targets: Tensor) -> Tensor:
    """Restore whole numbers, which single precision has blurred."""
    whole = targets.round()
    return whole if bool(((targets - whole).abs() < TOLERANCE).all()) else targets
