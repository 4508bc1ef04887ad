"""Compare the targets of a model of sequences with its inputs, and change later inputs.

The gradient at the logits of a cross-entropy is lowest at the target, whatever the loss did to the
labels on the way: shifted, flattened or ignored them. That of a squared error is the output's
distance from the target, up to a factor.

Cost: three forward passes of two sequences for each argument that holds the targets, ever more
rarely.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.observe.eval_passes import EvalPasses, eval_passes
from thalweg.observe.forward_pass import ForwardPass, tensors
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.sample_independence import (
    distances,
    is_due,
    largest,
    numbers,
    rounding,
)
from thalweg.observe.left_out_tokens import left_out_tokens
from thalweg.observe.next_values import value_targets
from thalweg.observe.sample_arguments import (
    Arguments,
    arguments_of,
    map_tensors,
    shortened,
)
from thalweg.observe.token_targets import Targets, class_targets, token_arguments
from thalweg.record import Quantity
from thalweg.record.quantities import COUNTED_TOKENS, TARGET_IS_INPUT, VISIBLE_TOKENS

OFFSETS = (-1, 0, 1, 2)  # places from a target to the input that it may equal
LEAST = 8  # places at which the inputs of all offsets differ
AGREE = 0.98
SEQUENCES = 2
ATTEMPTS = 2  # at the first readings, where a layer may still be zero; then ever more rarely
VISIBLE = 1e-3  # change of an output, as a share of the changed places' own


class Match(NamedTuple):
    """An argument that holds the targets, some places further on."""

    position: int  # among the tensors of the arguments
    tokens: Tensor  # its own, [row, column]
    dims: tuple[int, int]  # of the argument, in which rows and columns lie
    axis: int  # of time: 0 where it runs along the rows
    shares: Mapping[int, float]  # offset -> share of the targets that are that input
    targets: Targets

    @property
    def offset(self) -> int | None:
        """The one offset at which nearly all targets are inputs."""
        best = max(self.shares, key=lambda one: self.shares[one])
        return best if self.shares[best] >= AGREE else None


@instrument(TARGET_IS_INPUT, VISIBLE_TOKENS, COUNTED_TOKENS, when="loss", rare=True)
def token_order(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Offset from targets to inputs, and dependence of outputs on tokens from their place on."""
    arguments, forward = arguments_of(moment.forward), moment.forward
    attempts = len(moment.history.series(TARGET_IS_INPUT, "1"))  # not each shows what it looks for
    often = attempts < ATTEMPTS or is_due(moment, TARGET_IS_INPUT, place="1")
    due = often and is_due(moment, VISIBLE_TOKENS, place="later")
    if arguments is None or forward is None or not due:
        return {}
    matches = [*_matches(arguments, forward)]
    if not matches:
        return {}
    best = max(matches, key=lambda one: max(one.shares.values()))
    measured: dict[Quantity, dict[str, float]] = {
        TARGET_IS_INPUT: {str(k): share for k, share in best.shares.items()}
    }
    if best.offset not in (0, 1):
        return measured
    alike = [one for one in matches if one.offset == best.offset]
    with eval_passes(moment) as passes:
        results = [(_visible(passes, arguments, one), one) for one in alike]
    # Of a copying task the encoder's input is the targets, too: the decoder's input decides.
    visible = [(shares, one) for shares, one in results if shares is not None]
    if visible:
        shares, match = min(visible, key=lambda one: (one[0]["later"], -one[0]["same"]))
        measured[VISIBLE_TOKENS] = shares
        if match.offset == 0:
            measured[COUNTED_TOKENS] = _counted_tokens(match)
    return measured


def _counted_tokens(match: Match) -> dict[str, float]:
    """Facts of the places that the loss counts and of those that it leaves out."""
    targets = match.targets
    tokens = match.tokens[targets.rows][:, targets.columns]
    every = tokens, targets.classes, targets.active
    facts = left_out_tokens(*(one if match.axis == 1 else one.T for one in every))
    places = targets.columns if match.axis == 1 else targets.rows
    return facts if places[1] == 1 else facts | {"neighbours": 0.0}  # places lie between


def _matches(arguments: Arguments, forward: ForwardPass) -> Iterator[Match]:
    """Arguments of as many tokens as the output has places, or one more; and of real values."""
    for argument in token_arguments(arguments):
        for targets in class_targets(forward, argument):
            for axis in (1, 0):
                shares = _shares(argument.tokens, targets, axis=axis)
                if shares is not None:
                    yield Match(*argument, axis, shares, targets)
    for values in value_targets(arguments, forward):
        targets = values.targets
        yield Match(values.position, targets.classes, values.dims, 1, {1: 1.0}, targets)


def _shares(tokens: Tensor, targets: Targets, *, axis: int) -> dict[int, float] | None:
    """Share of the targets that equal the input at each offset, where these inputs differ."""
    rows, columns, classes, active = targets.rows, targets.columns, targets.classes, targets.active
    if axis == 0:
        tokens, rows, columns = tokens.T, columns, rows
        classes, active = classes.T, active.T
    length = tokens.shape[1]
    if len(rows) == 0 or rows[-1] >= len(tokens) or columns[-1] >= length:
        return None
    inside = (columns + OFFSETS[0] >= 0) & (columns + OFFSETS[-1] < length)
    columns, classes, active = columns[inside], classes[:, inside], active[:, inside]
    near = torch.stack([tokens[rows][:, columns + offset] for offset in OFFSETS])
    distinct = torch.ones_like(active)
    for first in range(len(OFFSETS)):
        for second in range(first):
            distinct &= near[first] != near[second]
    distinct &= active
    if int(distinct.sum()) < LEAST:
        return None
    equal = (near == classes)[:, distinct].float().mean(1)
    return dict(zip(OFFSETS, numbers(*equal), strict=True))


def _visible(passes: EvalPasses, arguments: Arguments, match: Match) -> dict[str, float] | None:
    """Change of the outputs before, and at, the first of the tokens that are changed.

    As a share of the change after it, and only where the loss has targets: a prefix may be seen
    whole. None where nothing changes, or where outputs do not depend on earlier tokens: then the
    dimension is not that of time.
    """
    axis, targets = match.axis, match.targets
    time, batch = match.dims[axis], match.dims[1 - axis]
    sequences = _sequences(targets, axis=axis)
    size = targets.shape[1 - axis], targets.shape[axis], targets.shape[2]
    few = shortened(arguments, size, samples=sequences, axes=(batch, time))
    if few is None:
        return None
    chosen = list(tensors(tuple(few)))[match.position]
    places = _places_with_targets(targets, chosen.shape[batch], chosen.shape[time], axis=axis)
    middle = int(places[len(places) // 2]) if len(places) > 1 else 0
    tokens = chosen.movedim(time, 0)
    if middle == 0 or bool((tokens[middle] == tokens[0]).all()):
        return None
    shape = chosen.shape[match.dims[0]], chosen.shape[match.dims[1]]
    try:
        every = [
            passes.output(few),
            *(passes.output(one) for one in _changed(few, match, middle)),
        ]
    except Exception:  # the model does not take another number of entries along this dimension
        return None
    outputs = [None if one is None else targets.arrange(one, shape) for one in every]
    if any(one is None or one.shape[axis] <= middle for one in outputs):
        return None
    first, *others = (one.movedim(axis, 0) for one in outputs if one is not None)
    if any(one.shape != first.shape for one in others):
        return None
    return _shares_of_change(first, others, places=places, middle=middle)


def _sequences(targets: Targets, *, axis: int) -> int:
    """Sequences to pass: one where the first ones have targets at other places each."""
    if len(targets.rows) != targets.shape[0]:
        return 1
    active = targets.active if axis == 1 else targets.active.T
    common = active[:SEQUENCES].all(0).sum()
    return SEQUENCES if 2 * common >= active[:1].sum() else 1


def _shares_of_change(
    first: Tensor, others: list[Tensor], *, places: Tensor, middle: int
) -> dict[str, float] | None:
    """Compare outputs [place, sequence, class] with those of other later and earlier tokens."""
    change, memory = (distances(first, one) for one in others)
    before = places[places < middle].to(change.device)
    sizes = change[before].amax(), change[middle], change[middle:].amax(), memory[middle:].amax()
    earlier, same, later, past, highest = numbers(*sizes, largest(first))
    if min(later, past) <= rounding(highest):
        return None
    shares = {"later": earlier / later, "same": same / later}
    return {name: share if share > VISIBLE else 0.0 for name, share in shares.items()}


def _places_with_targets(targets: Targets, sequences: int, length: int, *, axis: int) -> Tensor:
    """Places at which the first sequences have targets, in order."""
    active = targets.active.T if axis == 1 else targets.active
    places = targets.columns if axis == 1 else targets.rows
    common = active[:, :sequences].all(1) & (places < length)
    return places[common]


def _changed(arguments: Arguments, match: Match, middle: int) -> Iterator[Arguments]:
    """The arguments with other tokens from the middle on, then with others before it."""
    chosen, time = list(tensors(tuple(arguments)))[match.position], match.dims[match.axis]
    order = torch.arange(chosen.shape[time], device=chosen.device)
    later, shifted = (order - middle) % middle, (order + len(order) // 2) % len(order)
    for places in (
        torch.where(order < middle, order, later),
        torch.where(order < middle, shifted, order),
    ):
        values = chosen.index_select(time, places)
        yield map_tensors(arguments, partial(_exchanged, chosen, values))


def _exchanged(chosen: Tensor, values: Tensor, tensor: Tensor) -> Tensor:
    return values if tensor is chosen else tensor
