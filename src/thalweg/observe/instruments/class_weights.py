"""Weights of the classes in a loss, and classes that it leaves out: read off its gradient."""

from collections.abc import Mapping

import torch
from torch import Tensor

from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.loss_graph import ignored_index
from thalweg.observe.targets_from_gradient import class_axis, output_gradient
from thalweg.record import Quantity
from thalweg.record.quantities import CLASS_IN_BATCH, CLASS_WEIGHT, IGNORED_CLASS, TRUE_LABELS

MOST_CLASSES = 64
MOST_ROWS = 2**14
UNCERTAIN = 0.02  # probability left to the other classes from which a gradient is read
EXACT = 0.02  # relative spread of one class's weights: other losses spread more
SMALLEST = 1e-30  # keeps a batch without gradient from dividing by zero
MOST_EXACT = 0.9  # share of the rows whose gradient is that of a target of zeros and ones
CERTAIN = 0.99  # probability from which a target may have a gradient of zero without being ignored


@instrument(CLASS_WEIGHT, CLASS_IN_BATCH, IGNORED_CLASS, TRUE_LABELS, when="loss", rare=True)
def class_weights(moment: Moment) -> Mapping[Quantity, Measurements]:
    """The weight and the number of each class's targets, and the share of those left out.

    Cross-entropy's gradient is w·(softmax − target) in each row, so w is exact. Cost: a
    few passes over the scores.
    """
    forward, graph, gradient = moment.forward, moment.graph, output_gradient(moment.forward)
    if forward is None or forward.output is None or gradient is None or graph is None:
        return {}
    if graph.broadcast or gradient.numel() > MOST_ROWS * MOST_CLASSES:
        return {}
    outputs, slopes = forward.output.float(), gradient.float()
    if graph.kind == "bce_with_logits" and slopes.numel() == len(slopes) and not graph.composed:
        return _binary_weights(outputs.flatten(), slopes.flatten())
    axis = class_axis(slopes) if graph.kind == "cross_entropy" else None
    if axis is None or not 2 <= slopes.shape[axis] <= MOST_CLASSES:
        return {}
    outputs, slopes = outputs.movedim(axis, -1), slopes.movedim(axis, -1)
    ignored = _ignored(moment, outputs.softmax(-1), slopes=slopes)
    if graph.composed:  # with label smoothing, or beside other terms
        return ignored
    shares, rows = outputs.flatten(0, -2).softmax(1), slopes.flatten(0, -2)
    return _entropy_weights(shares, rows) | _true_labels(shares, rows) | ignored


def _true_labels(shares: Tensor, slopes: Tensor) -> dict[Quantity, Measurements]:
    """Ones in a row of targets, from S·softmax − target, S their number; 0: no such targets.

    A class that does not hold shows S, the largest ratio of its slope and its share.
    """
    ratio = torch.where(shares > UNCERTAIN / len(shares[0]), slopes / shares, -torch.inf).amax(1)
    held = ratio[:, None] * shares - slopes  # 1 where a label holds, in the unit of the loss
    unit = held.amax().clamp_min(SMALLEST)
    ones = held > unit / 2
    counts = ones.sum(1)
    exact = ((held - unit * ones).abs() <= EXACT * unit).all(1)
    exact &= (ratio - unit * counts).abs() <= EXACT * unit * counts.clamp_min(1)
    read = (slopes != 0).any(1) & (counts < slopes.shape[1])
    agree = (exact & read).sum() >= MOST_EXACT * read.sum()
    mean = (counts * read).sum() / read.sum().clamp_min(1)
    return {TRUE_LABELS: {"": mean * agree}}


def _entropy_weights(shares: Tensor, slopes: Tensor) -> dict[Quantity, Measurements]:
    """No weight is known where a row's gradient is not that of a plain cross-entropy."""
    classes = slopes.argmin(1, keepdim=True)
    left = 1 - shares.gather(1, classes)
    pull = -slopes.gather(1, classes) / left.clamp_min(UNCERTAIN)
    one_hot = torch.zeros_like(slopes).scatter(1, classes, 1.0)
    read = (slopes != 0).any(1, keepdim=True) & (left > UNCERTAIN)
    error = (pull * (shares - one_hot) - slopes).abs().amax(1, keepdim=True)
    plain = (~read | (error <= EXACT * pull)).all()
    return _weights(pull * plain, one_hot * read)


def _binary_weights(outputs: Tensor, slopes: Tensor) -> dict[Quantity, Measurements]:
    positive = slopes < 0
    left = (outputs.sigmoid() - positive.float()).abs()
    read = (slopes != 0) & (left > UNCERTAIN)
    one_hot = torch.stack([~positive & read, positive & read], 1).float()
    return _weights((slopes.abs() / left.clamp_min(UNCERTAIN))[:, None], one_hot)


def _weights(pulls: Tensor, one_hot: Tensor) -> dict[Quantity, Measurements]:
    """The weight of each class against their mean; 0 unless all targets of each class have one."""
    counts = one_hot.sum(0)
    sums = (pulls * one_hot).sum(0)
    weights = sums / counts.clamp_min(1)
    spread = ((pulls - weights).abs() * one_hot).amax(0)
    exact = (spread <= EXACT * weights).all()
    relative = weights * exact / (weights.sum() / (counts > 0).sum()).clamp_min(SMALLEST)
    return {
        CLASS_WEIGHT: {str(number): one for number, one in enumerate(relative.unbind())},
        CLASS_IN_BATCH: {str(number): one for number, one in enumerate(counts.unbind())},
    }


def _ignored(moment: Moment, shares: Tensor, *, slopes: Tensor) -> dict[Quantity, Measurements]:
    """The share of the samples, or of the places within a sequence, whose class is left out."""
    forward = moment.forward
    number = ignored_index(moment.loss, forward and forward.output_node)
    if forward is None or number is None or not 0 <= number < slopes.shape[-1]:
        return {}
    if not _holds_classes(forward, moment.passes.forwards) or slopes.ndim > 3:
        return {}
    silent = (slopes == 0).all(-1)
    certain = ((shares.amax(-1) > CERTAIN) & silent).any()  # right beyond doubt: no gradient
    if silent.ndim == 2:  # what no target follows may be padding
        silent = silent & (~silent).int().flip(1).cummax(1).values.flip(1).bool()
    return {IGNORED_CLASS: {str(number): silent.double().mean() * ~certain}}


def _holds_classes(forward: ForwardPass, passes: int) -> bool:
    """True for inputs of real numbers, or for one class for each row of tokens: no vocabulary."""
    first = forward.first_input
    if first is None or not len(first) or len(first) != forward.output_shape[0]:
        return False
    whole_rows = first.ndim == 2 and len(forward.output_shape) == 2 and passes <= 1
    return first.is_floating_point() or whole_rows
