"""Tell if labels are what the loss compares: they reproduce its value, or explain its gradient.

The labels that a loader yields need not be the targets of a loss: a GAN's digits, an autoencoder's
classes, tokens that the model itself shifts by one.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.observe.correlation import correlation
from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.loss_graph import LossGraph
from thalweg.observe.lowest_entries import IGNORED
from thalweg.observe.targets_from_gradient import (
    ENTROPY_KINDS,
    class_axis,
    output_gradient,
)

MOST_VALUES = 2**22  # of the outputs; a loss of more is not computed again
MOST = 64  # samples whose gradient is compared
CLOSE = 2e-3  # relative; half precision is met only by the gradient
EXACT = 1e-5  # relative; of a loss whose kind the graph does not show
CLAMP = 1e-7  # of probabilities before their logarithm, as in Keras
AGREE, DISAGREE = 0.9, 0.6  # shares of the gradient that labels explain
LossFn = Callable[..., Tensor]

ELEMENTWISE: dict[str, LossFn] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


def compared_labels(
    labels: Tensor, forward: ForwardPass, graph: LossGraph, *, loss: Tensor
) -> Tensor | None:
    """The labels in the form in which they give the value of the loss; None where they do not."""
    output = forward.output
    if output is None or not forward.is_whole or graph.composed or loss.numel() != 1:
        return None  # of some predictions alone no loss can be computed
    if output.numel() > MOST_VALUES:
        return None
    seen = float(loss.detach())
    for value, form in _losses(labels.detach(), output.float(), graph=graph):
        if abs(value - seen) <= CLOSE * abs(seen) + 1e-9:
            return form
    if not graph.kind:  # no loss that is known
        return _compared_by_hand(labels.detach(), output.float(), seen)
    return None


def _compared_by_hand(labels: Tensor, output: Tensor, seen: float) -> Tensor | None:
    """The labels if a binary cross-entropy written by hand has this value, whatever they are.

    The graph does not show it: clamps and small summands come in between.
    """
    if labels.numel() != output.numel() or not bool(((output >= 0) & (output <= 1)).all()):
        return None
    chances = output.double().clamp(CLAMP, 1 - CLAMP)
    form = labels.reshape(output.shape).double()
    entropies = -(form * chances.log() + (1 - form) * (1 - chances).log())
    values = float(entropies.mean()), float(entropies.sum())
    return labels if any(abs(one - seen) <= EXACT * abs(seen) for one in values) else None


def _losses(labels: Tensor, output: Tensor, *, graph: LossGraph) -> Iterator[tuple[float, Tensor]]:
    reduction = "sum" if graph.summed else "mean"
    if graph.kind in ENTROPY_KINDS:
        yield from _entropies(labels, output, graph=graph)
    loss_fn = ELEMENTWISE.get(graph.kind)
    if loss_fn is None:
        return
    one_hot = _one_hot(labels, output)
    for prediction in _predictions(output, graph=graph):
        if labels.numel() == output.numel():
            form = labels.reshape(output.shape).to(output.dtype)
            yield float(loss_fn(prediction, form, reduction=reduction)), labels
        if one_hot is not None:
            yield float(loss_fn(prediction, one_hot, reduction=reduction)), one_hot


def _predictions(output: Tensor, *, graph: LossGraph) -> Iterator[Tensor]:
    """The model's output, and what the loss may have made of it first."""
    if graph.kind not in ("bce",) or bool(((output >= 0) & (output <= 1)).all()):
        yield output
    if graph.applied_to == "softmax" and output.ndim > 1:
        yield output.softmax(1)
    if graph.applied_to == "sigmoid":
        yield output.sigmoid()


def _entropies(
    labels: Tensor, output: Tensor, *, graph: LossGraph
) -> Iterator[tuple[float, Tensor]]:
    reduction = "sum" if graph.summed else "mean"
    loss_fn = F.cross_entropy if graph.kind == "cross_entropy" else F.nll_loss
    if labels.shape == output.shape and graph.kind == "cross_entropy":
        form = labels.to(output.dtype)
        yield float(F.cross_entropy(output, form, reduction=reduction)), form
    elif not labels.is_floating_point() and output.ndim > 1:
        for axis in {1, output.ndim - 1}:
            rows = output.movedim(axis, -1)
            if rows.shape[:-1] == labels.shape:
                logits, numbers = rows.flatten(0, -2), valid_classes(labels, rows.shape[-1])
                yield float(loss_fn(logits, numbers.flatten(), reduction=reduction)), numbers


def valid_classes(labels: Tensor, width: int) -> Tensor:
    """Class numbers, where those that no logit belongs to (255, −1) are ignored."""
    return torch.where((labels >= 0) & (labels < width), labels.long(), IGNORED)


def _one_hot(labels: Tensor, output: Tensor) -> Tensor | None:
    classes = not labels.is_floating_point() and labels.numel() == len(output)
    if not classes or output.ndim != 2 or output.shape[1] < 2:
        return None
    numbers = labels.flatten().long()
    if bool((numbers < 0).any()) or int(numbers.max()) >= output.shape[1]:
        return None
    return F.one_hot(numbers, output.shape[1]).to(output.dtype)


def agreement(
    labels: Tensor, output: Tensor, gradient: Tensor, *, graph: LossGraph
) -> float | None:
    """The share of the gradient that the labels explain, in [0, 1]; None where it cannot tell.

    A gradient tells of the targets without the factors of a loss: at class numbers it is lowest;
    elsewhere it has the sign of the error.
    """
    labels, output, gradient = labels[:MOST], output[:MOST], gradient[:MOST]
    if graph.kind in ENTROPY_KINDS:
        return _class_agreement(labels, gradient)
    if graph.kind not in ELEMENTWISE:
        return None
    form = labels if labels.numel() == output.numel() else _one_hot(labels, output)
    if form is None or output.numel() > MOST_VALUES or graph.broadcast:
        return 0.0 if form is None else None
    prediction = output.float().sigmoid() if graph.kind == "bce_with_logits" else output.float()
    error = (prediction - form.reshape(output.shape).to(prediction.dtype)).sign()
    signs = gradient.sign()
    telling = (signs != 0) & (error != 0)
    return _share(signs[telling] == error[telling])


def _class_agreement(labels: Tensor, gradient: Tensor) -> float | None:
    axis = class_axis(gradient)
    if axis is None:
        return None
    # A row with one class pulled up names it. With smoothed targets, and outputs surer than these,
    # the target is pushed down and all others up: which one is lowest then says nothing.
    lowest, telling = gradient.argmin(axis), (gradient < 0).sum(axis) == 1
    if labels.is_floating_point():
        if labels.shape != gradient.shape:
            return None
        labels = labels.argmax(axis)
    shares = [
        _share((numbers == lowest[place])[telling[place]])
        for place, numbers in _placements(labels, lowest)
    ]
    return max((share for share in shares if share is not None), default=None)


def _placements(labels: Tensor, lowest: Tensor) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """The labels where they stand, and one place earlier, as language models shift them."""
    if labels.shape == lowest.shape:
        yield (slice(None),), labels
        if labels.ndim == 2:
            yield (slice(None), slice(None, -1)), labels[:, 1:]
    elif labels.numel() == lowest.numel():
        yield (slice(None),), labels.reshape(lowest.shape)


def _share(right: Tensor) -> float | None:
    return float(right.double().mean()) if right.numel() else None


def same_values(passed: Tensor, recovered: Tensor) -> bool:
    """True if one is a rising function of the other: a unit, a logarithm, a one-hot code."""
    if recovered.ndim == 2 and passed.numel() == len(recovered) != recovered.numel():
        return bool((recovered.argmax(1) == passed.flatten()).double().mean() > AGREE)
    if passed.numel() != recovered.numel() or passed.numel() < 2:
        return False
    first, second = (one.detach().flatten().double() for one in (passed, recovered))
    if torch.allclose(first, second, rtol=1e-3, atol=1e-3):
        return True
    ranks = [one.argsort().argsort().double() for one in (first, second)]
    return correlation(first, second) > 0.999 or correlation(*ranks) > 0.99


class Comparison(NamedTuple):
    """The targets of a loss, and if the labels that were passed in are these."""

    targets: Tensor | None  # as the loss compares them; None where that is not known
    labels_agree: bool | None  # None where it is not known, or nothing was passed in


def compare(
    labels: Tensor | None,
    forward: ForwardPass | None,
    graph: LossGraph | None,
    *,
    loss: Tensor | None,
    recovered: Tensor | None,
) -> Comparison:
    """Find the targets of a loss: labels that reproduce it, else what its gradient shows."""
    if forward is None or graph is None or loss is None:
        return Comparison(None, None)
    if labels is None or labels.ndim == 0 or labels.is_complex():
        return Comparison(recovered, None)
    form = compared_labels(labels, forward, graph, loss=loss)
    if form is not None:
        return Comparison(form, True)
    if recovered is not None and recovered.is_floating_point():
        return Comparison(recovered, same_values(labels, recovered))
    gradient = output_gradient(forward)
    if gradient is None or forward.output is None:
        return Comparison(recovered, None)
    share = agreement(labels, forward.output, gradient, graph=graph)
    if share is None or DISAGREE <= share < AGREE:
        return Comparison(recovered, None)
    if share < AGREE or (recovered is not None and recovered.shape != labels.shape):
        return Comparison(recovered, share >= AGREE)
    return Comparison(numbers_within(labels, forward.output), True)


def numbers_within(labels: Tensor, output: Tensor) -> Tensor:
    """Class numbers with IGNORED where no logit belongs to them; other labels as they are."""
    shape = list(output.shape)
    axes = [
        a for a in (1, output.ndim - 1) if a and shape[1:a] + shape[a + 1 :] == [*labels.shape[1:]]
    ]
    if labels.is_floating_point() or not axes:
        return labels
    return valid_classes(labels, shape[axes[0]])
