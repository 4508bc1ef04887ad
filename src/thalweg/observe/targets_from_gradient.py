"""Read a batch's targets off the gradient at the model's output, where nobody passed them in."""

import torch
from torch import Tensor

from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.loss_graph import LossGraph

TOLERANCE = 1e-3  # a target this near to a whole number is taken for it


def targets_from_gradient(
    forward: ForwardPass | None, graph: LossGraph | None, loss: Tensor | None
) -> Tensor | None:
    """The last batch's targets, exact where the loss allows it; None elsewhere.

    Cross-entropy's gradient at the logits is (softmax − target) times a positive weight: negative
    at the target's class alone. Mean squared error's is 2(output − target) / n.
    """
    if forward is None or graph is None or loss is None:
        return None
    if forward.output is None or len(forward.gradients) != 1:
        return None
    output, gradient = forward.output, forward.gradients[0]
    if output.shape != gradient.shape or output.ndim != 2:
        return None
    if graph.kind in ("cross_entropy", "nll", "nll_of_log", "nll_of_probability"):
        return _classes(gradient)
    if graph.kind == "mse" and not graph.broadcast:
        scale = 2.0 if graph.summed else 2.0 / output.numel()
        targets = output.double() - gradient.double() / scale
        error = (output - targets).square()
        again = error.sum() if graph.summed else error.mean()
        fits = torch.isclose(again, loss.double().reshape(()), rtol=1e-3)
        return _rounded(targets) if bool(fits) else None
    return None


def _classes(gradient: Tensor) -> Tensor | None:
    """None unless exactly one entry of each row is negative, which soft targets do not give."""
    if gradient.shape[1] < 2 or not bool(((gradient < 0).sum(1) == 1).all()):
        return None
    return torch.as_tensor(gradient.argmin(1))


def _rounded(targets: Tensor) -> Tensor:
    """Restore whole numbers, which single precision has blurred."""
    whole = targets.round()
    return whole if bool(((targets - whole).abs() < TOLERANCE).all()) else targets
