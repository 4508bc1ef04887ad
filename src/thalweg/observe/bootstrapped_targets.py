"""Tell if a regression's targets are computed from a copy's outputs on other inputs (bootstrapped).

In temporal difference learning the target is r + γ·v, with v the value that a copy gives the next
state. Two samples of the same reward r then have targets whose difference is γ times that of their
values: one slope for many pairs of samples.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.observe.forward_pass import ForwardPass, is_plain, tensors
from thalweg.observe.instrument import REGRESSIVE, Moment
from thalweg.observe.spaced_entries import spaced_entries

MOST_ROWS = 48  # samples whose pairs are compared
FEWEST_ROWS = 12
LEAST_PAIRS = 12  # of one slope, and a share of all pairs; by chance there are one or two
LEAST_SHARE = 0.03
LOWEST = 0.05  # slope
TOLERANCE = 2e-3  # of slopes that count as one
DISTINCT = 0.75  # of the gaps: whole numbers have the same slopes by chance
INPUT_ENTRIES = 64
MOST_NUMBERS = 2**16  # of an output


class CopyPass(NamedTuple):
    """Some entries of the inputs, and the numbers of the outputs as [sample, column]."""

    inputs: list[Tensor]
    outputs: list[Tensor]


class CommonSlope(NamedTuple):
    """A slope and the pairs of samples that have it."""

    pairs: int
    slope: float


NO_SLOPE = CommonSlope(0, 0.0)


def input_entries(inputs: Any) -> list[Tensor]:
    """Copies of some entries of each input."""
    every = filter(is_plain, tensors(inputs))
    return [spaced_entries(one.detach(), INPUT_ENTRIES).clone() for one in every]


def output_rows(output: Any) -> list[Tensor]:
    """Copies of the outputs that are a few numbers a sample."""
    return [
        one.detach().reshape(len(one), -1).double().cpu()
        for one in filter(is_plain, tensors(output))
        if one.is_floating_point() and 1 <= one.ndim <= 2 and one.numel() <= MOST_NUMBERS
    ]


def discount_of_copy(
    moment: Moment,
    own: Sequence[CopyPass],
    *,
    of_copies: Sequence[CopyPass],
    of_model: Sequence[CopyPass],
) -> float:
    """The slope γ of the targets in the copy's values; 0 for a regression without a clear one.

    −1 for another loss, or for a copy that gets the model's inputs. `of_copies` are the passes of
    all copies, whose lower values may be used; those `of_model` may choose among the values.
    """
    forward = moment.forward
    if forward is None or moment.loss is None:
        return -1.0
    inputs = input_entries((forward.inputs, dict(forward.keywords)))
    elsewhere = [one for one in own if one.inputs and not _alike(one.inputs, inputs)]
    if not elsewhere or len(elsewhere) < len(own):
        return -1.0
    every = list(_targets(forward, float(moment.loss.detach())))
    values = [each for one in elsewhere for each in _values(one, of_copies, of_model)]
    slope = _clearest_slope(every, values)
    regression = moment.graph is not None and moment.graph.kind in REGRESSIVE
    return slope if slope or regression else -1.0


def discount_of_same_inputs(moment: Moment, passes: Sequence[CopyPass]) -> float | None:
    """The slope γ of the targets in values of the very inputs that the model is trained on.

    `passes` are those of the model and its copies. 0 without a clear slope; None for a loss that is
    no regression (the gradient of a log probability is the same for every sample, as if targets
    followed outputs), or of more than one of several outputs a sample, unlike a chosen action's.
    """
    forward = moment.forward
    if forward is None or moment.loss is None or forward.output is None:
        return None
    if moment.graph is None or moment.graph.kind not in REGRESSIVE:
        return None
    if forward.output.ndim != 2 or forward.output.shape[1] < 2:
        return None
    inputs = input_entries((forward.inputs, dict(forward.keywords)))
    here = [one for one in passes if one.inputs and _alike(one.inputs, inputs)]
    every = list(_targets(forward, float(moment.loss.detach())))
    if not here or not every:
        return None
    return _clearest_slope(every, [each for one in here for each in _values(one, [], here)])


def _clearest_slope(every: Sequence[Tensor], values: Sequence[Tensor]) -> float:
    """The slope that most pairs of samples share, of any targets in any values; 0 for none."""
    slopes = [common_slope(targets, each) for each in values for targets in every]
    return max(slopes, default=NO_SLOPE).slope


def common_slope(targets: Tensor, values: Tensor) -> CommonSlope:
    """The slope that many pairs of samples share; 0 without one, or if targets are the values.

    With fewer values than targets, as where the last states of an episode have none, those before
    the first gap are compared, or those after the last one.
    """
    if len(targets) == len(values):
        return _slope_of_pairs(targets, values)
    if len(values) < FEWEST_ROWS or len(targets) < len(values):
        return NO_SLOPE
    head = _slope_of_pairs(targets[:FEWEST_ROWS], values[:FEWEST_ROWS])
    return max(head, _slope_of_pairs(targets[-FEWEST_ROWS:], values[-FEWEST_ROWS:]))


def _slope_of_pairs(targets: Tensor, values: Tensor) -> CommonSlope:
    targets, values = _distinct_rows(targets, values)
    if len(targets) < FEWEST_ROWS:
        return NO_SLOPE
    spread = float(values.max() - values.min())
    if float((targets - values).abs().median()) < TOLERANCE * spread:
        return NO_SLOPE
    first, second = torch.tensor(list(combinations(range(len(targets)), 2))).T
    gaps = values[first] - values[second]
    clear = gaps.abs() > 0.01 * spread
    if len(gaps.abs().unique()) < DISTINCT * len(gaps) or not bool(clear.any()):
        return NO_SLOPE
    slopes = ((targets[first] - targets[second])[clear] / gaps[clear]).sort().values
    counts = torch.searchsorted(slopes, slopes * (1 + TOLERANCE), right=True)
    counts = counts - torch.arange(len(slopes))
    counts[(slopes < LOWEST) | (slopes > 1 + TOLERANCE)] = 0
    best = int(counts.argmax())
    enough = int(counts[best]) >= max(LEAST_PAIRS, LEAST_SHARE * len(first))
    return CommonSlope(int(counts[best]), float(slopes[best])) if enough else NO_SLOPE


def _distinct_rows(targets: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The first sample of each value: states may occur several times in a batch."""
    finite = targets.isfinite() & values.isfinite()
    targets, values = targets[finite], values[finite]
    first = {value: index for index, value in reversed(list(enumerate(values.tolist())))}
    rows = sorted(first.values())[:MOST_ROWS]
    return targets[rows], values[rows]


def _targets(forward: ForwardPass, loss: float) -> Iterator[Tensor]:
    """The targets of the samples' only output with a gradient, for each scale of the loss.

    A squared error c/2·Σd² has the gradient c·d, so that c = Σg² / 2·loss; other terms beside it,
    or errors beyond a Huber loss's edge, leave the usual scales. NaN marks those errors.
    """
    output, gradients = forward.output, forward.gradients
    if output is None or len(gradients) != 1 or not forward.is_whole or output.ndim > 2:
        return
    rows = gradients[0].reshape(len(output), -1).double().cpu()
    if int((rows != 0).sum(1).max()) > 1:
        return
    column = rows.abs().argmax(1, keepdim=True)
    slopes = rows.gather(1, column)[:, 0]
    numbers = output.reshape(len(output), -1).double().cpu().gather(1, column)[:, 0]
    edge = 0.999 / len(output)
    for scale in (
        float(slopes.square().sum()) / max(1e-30, 2 * loss),
        2 / len(output),
        1 / len(output),
    ):
        if scale > 0:
            clipped = (slopes.abs() >= edge) & (scale == 1 / len(output))
            yield (numbers - slopes / scale).masked_fill(clipped, float("nan"))


def _values(
    one: CopyPass, of_copies: Sequence[CopyPass], of_model: Sequence[CopyPass]
) -> Iterator[Tensor]:
    """Values of the samples that a target may use: the highest, the chosen, the lower of two."""
    for rows in one.outputs:
        yield rows.amax(1)
        if rows.shape[1] > 1:
            yield from (
                rows.gather(1, scores.argmax(1, keepdim=True))[:, 0]
                for other in of_model
                if _alike(other.inputs, one.inputs)
                for scores in other.outputs
                if scores.shape == rows.shape
            )
    columns = [rows[:, 0] for p in of_copies for rows in p.outputs if rows.shape[1] == 1]
    for first, second in combinations(columns, 2):
        if len(first) == len(second):
            yield torch.minimum(first, second)


def _alike(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))
