"""Change some samples of a batch: do the others' outputs change, and does anything?

Cost: five forward passes of five samples, without gradient, at the first reading, from step 400 on
ever more rarely, and at the end; a few more of them where samples do influence each other.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.observe.eval_passes import (
    EvalPasses,
    RandomOperations,
    eval_passes,
    running_modules,
)
from thalweg.observe.forward_pass import ForwardPass, tensors
from thalweg.observe.guard import NotMeasurableError
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.tokens import is_next_token, token_inputs, token_targets
from thalweg.observe.mixing_operation import MixingOperation, OperationOutputs
from thalweg.observe.noisy_latents import penalises_noisy_latents
from thalweg.observe.sample_arguments import (
    Arguments,
    SampleAxis,
    arguments_of,
    num_samples,
    sample_axis,
    selected_samples,
)
from thalweg.record import Quantity
from thalweg.record.quantities import (
    BATCH_MIXING,
    EVAL_NOISE,
    MIXING_OPERATION,
    OUTPUT_SPREAD,
    RANDOM_OPERATION,
    RECONSTRUCTED,
)

MIXED = 0.02  # change of the other samples, as a share of the changed ones', that counts as mixing
AGREE = 0.98  # of the signs of gradients and errors: the targets are the inputs
FEW = 8  # samples
MOST_NUMBERS = 2**20  # of the inputs of a whole batch that is passed again
RARELY = 400  # steps from the first time that something is measured to the second
CAUSED = "caused"  # the spread of the outputs that the inputs cause, with the same noise
ROUNDING = 64  # units in the last place; more is no rounding


class Pair(NamedTuple):
    """Two batches that differ in the first samples, and where samples lie in them."""

    first: Arguments
    second: Arguments
    along: SampleAxis
    samples: int
    changed: int


@instrument(
    BATCH_MIXING,
    MIXING_OPERATION,
    EVAL_NOISE,
    RANDOM_OPERATION,
    OUTPUT_SPREAD,
    RECONSTRUCTED,
    when="loss",
    rare=True,
    repeats_at_end=True,
)
def sample_independence(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Influence of samples on each other, randomness and spread of the outputs, in eval mode."""
    arguments = arguments_of(moment.forward)
    if arguments is None:
        return {}
    pair = batch_pair(arguments, axis=0)
    if not is_due(moment, EVAL_NOISE if pair is None else BATCH_MIXING):
        return {}
    if pair is None:
        return _randomness(moment, arguments)
    with eval_passes(moment) as passes:
        try:
            first = passes.output(pair.first)
        except Exception:  # it takes nothing but whole batches, as of a graph's nodes
            return {}
        axis = None if first is None else _axis_of_samples(first, pair.samples)
        if first is None or axis is None:
            return {}
        passes.axis, first = axis, first.movedim(axis, 0)
        pair, second = _output_of_second(passes, arguments, pair)
        measured = _measure(passes, pair, first=first, second=second)
        cause: dict[Quantity, dict[str, float]] = {}
        if measured.get(BATCH_MIXING, {}).get("", 0.0) > MIXED:
            cause = _explain(passes, arguments, pair, moment=moment)
        is_open = not cause or "index: " in "".join(cause.get(MIXING_OPERATION, ()))
        if measured and is_open and not measured[EVAL_NOISE][""]:
            cause = _effect_of_place(passes, arguments, pair, first=first) or cause
        measured |= cause
    if measured and moment.forward is not None:
        _add_reconstruction(measured, moment, moment.forward)
    return measured


def _add_reconstruction(
    measured: dict[Quantity, dict[str, float]], moment: Moment, forward: ForwardPass
) -> None:
    """Add what is known of a model that gives its inputs back, by way of noisy latents or not."""
    caused = measured[OUTPUT_SPREAD].pop(CAUSED)
    spread, ends = _reconstructed(forward)
    measured[OUTPUT_SPREAD] |= spread
    if ends:
        measured[RECONSTRUCTED] = ends
    if _is_variational(moment, forward):
        measured[OUTPUT_SPREAD]["latents"] = caused


def _axis_of_samples(output: Tensor, samples: int) -> int | None:
    """The dimension of the samples: the first, or the second of [time, batch, class]."""
    if output.ndim and len(output) == samples:
        return 0
    return 1 if output.ndim == 3 and output.shape[1] == samples else None


def _is_variational(moment: Moment, forward: ForwardPass) -> bool:
    """True if the graph shows it, or showed it before: the last reading has none."""
    return bool(moment.history.series(OUTPUT_SPREAD, "latents")) or penalises_noisy_latents(
        moment.loss, forward.output_node
    )


def is_due(moment: Moment, quantity: Quantity, *, place: str = "") -> bool:
    """True until it was measured, then ever more rarely, and at the end.

    What is exact seldom changes, and a few passes cost as much as some steps of a small model.
    """
    steps = moment.history.series(quantity, place)
    forward = moment.forward
    is_over = forward is not None and forward.output_node is None and not forward.gradients
    return not steps or moment.step >= 3 * max(steps) + RARELY or is_over


def batch_pair(arguments: Arguments, *, axis: int) -> Pair | None:
    """Some samples of the batch, and the same with others in place of the first ones."""
    along = sample_axis(arguments, axis)
    if along is None:
        return None
    samples = num_samples(arguments, along)
    changed = samples // 2
    indices = list(range(samples))
    beyond = along.size - samples >= changed
    donors = [samples + i if beyond else samples - 1 - i for i in range(changed)]
    return Pair(
        selected_samples(arguments, along, indices),
        selected_samples(arguments, along, donors + indices[changed:]),
        along,
        samples,
        changed,
    )


def _output_of_second(
    passes: EvalPasses, arguments: Arguments, pair: Pair
) -> tuple[Pair, Tensor | None]:
    """The output of the changed batch; of one in the samples' own order where that is needed.

    Sequences may have to be sorted by their lengths, to be packed.
    """
    with suppress(Exception):
        return pair, passes.output(pair.second)
    indices = [*range(1, pair.changed + 1), *range(pair.changed, pair.samples)]
    ordered = pair._replace(second=selected_samples(arguments, pair.along, indices))
    try:
        return ordered, passes.output(ordered.second)
    except Exception as error:
        raise NotMeasurableError(
            "the model takes no batch but its own", seen=type(error).__name__
        ) from error


def _measure(
    passes: EvalPasses, pair: Pair, *, first: Tensor, second: Tensor | None
) -> dict[Quantity, dict[str, float]]:
    if second is None or first.shape != second.shape:
        return {}
    replaced = distances(first[: pair.changed], second[: pair.changed], order=2)
    caused = torch.linalg.vector_norm(replaced) / first[: pair.changed].numel() ** 0.5 / 2**0.5
    moved_and_mixed = changes(first, second, pair)
    del second  # the outputs of a large vocabulary are the largest tensors here
    drawn = RandomOperations()
    with running_modules(passes.copy, drawn.stack):
        again = passes.output(pair.first, seed=1, mode=drawn)
    if again is None or first.shape != again.shape:
        return {}
    size, caused_number, spread, highest, noise, moved, mixed = numbers(
        torch.linalg.vector_norm(first) / first.numel() ** 0.5,
        caused,
        first.var(0, unbiased=False).mean().sqrt(),
        largest(first),
        distances(first, again).amax(),
        *moved_and_mixed,
    )
    del again
    least = rounding(highest)
    own = _change_of_itself(passes, pair, first=first) if noise > least else 0.0
    noise = noise if noise > max(least, 3 * own) and spread > 0 else 0.0
    measured: dict[Quantity, dict[str, float]] = {
        OUTPUT_SPREAD: {
            name: each / size if size > 0 else 0.0
            for name, each in (("", spread), (CAUSED, caused_number))
        },
        EVAL_NOISE: {"": noise / spread if noise else 0.0},
    }
    if noise:
        measured[RANDOM_OPERATION] = _places(drawn)
    least = max(least, 10 * own)
    if not moved > least:
        return measured
    share = mixed / moved if mixed > least else 0.0
    return measured | {BATCH_MIXING: {"": share}}


def _randomness(moment: Moment, arguments: Arguments) -> dict[Quantity, dict[str, float]]:
    """Randomness of the outputs alone, where no samples can be taken: the nodes of a graph."""
    if sum(one.numel() for one in tensors(tuple(arguments))) > MOST_NUMBERS:
        return {}
    drawn = RandomOperations()
    with eval_passes(moment) as passes:
        first, same = passes.output(arguments), passes.output(arguments)
        with running_modules(passes.copy, drawn.stack):
            again = passes.output(arguments, seed=1, mode=drawn)
    if first is None or same is None or again is None or first.ndim == 0:
        return {}
    if not first.shape == same.shape == again.shape:
        return {}
    spread, highest, noise, own = numbers(
        (first - first.mean(0)).square().mean().sqrt(),
        first.abs().amax(),
        (first - again).abs().amax(),
        (first - same).abs().amax(),
    )
    if not noise > max(rounding(highest), 3 * own) or spread == 0:
        return {EVAL_NOISE: {"": 0.0}}
    return {EVAL_NOISE: {"": noise / spread}, RANDOM_OPERATION: _places(drawn)}


def _places(drawn: RandomOperations) -> dict[str, float]:
    return {f"{name} {place}": 1.0 for name, place in drawn.places.items()}


def _change_of_itself(passes: EvalPasses, pair: Pair, *, first: Tensor) -> float:
    """The change of a pass that is made again: of the kernels, or of a state in the model."""
    again = passes.output(pair.first)
    return 0.0 if again is None else float(distances(first, again).amax())


def numbers(*scalars: Tensor) -> list[float]:
    """Scalars as numbers, with one wait for the device."""
    return [float(number) for number in torch.stack(scalars).tolist()]


def rounding(highest: float) -> float:
    """The change of outputs up to that size that counts as rounding."""
    return ROUNDING * torch.finfo(torch.float32).eps * highest


def largest(tensor: Tensor) -> Tensor:
    """The largest |entry|; no copy is made."""
    return torch.linalg.vector_norm(tensor, float("inf"))


def distances(first: Tensor, second: Tensor, *, order: float = float("inf")) -> Tensor:
    """The norm of the difference of each pair of rows; of one row at a time, to save memory."""
    pairs = zip(first, second, strict=True)
    return torch.stack([torch.linalg.vector_norm(a - b, order) for a, b in pairs])


def changes(first: Tensor, second: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
    """Mean change of the outputs of the replaced samples, and the largest of those that stayed.

    A recurrent layer that runs along the batch forgets within a few samples: only the next change.
    Entries between two samples, as of a similarity matrix, are compared where both stayed.
    """
    others = [first[pair.changed :], second[pair.changed :]]
    for axis in range(1, first.ndim):
        if first.shape[axis] == pair.samples:
            left = pair.samples - pair.changed
            others = [one.narrow(axis, pair.changed, left) for one in others]
    moved = distances(first[: pair.changed], second[: pair.changed]).mean()
    return moved, distances(*others).amax() if others[0].numel() else moved * 0


def _effect_of_place(
    passes: EvalPasses, arguments: Arguments, pair: Pair, *, first: Tensor
) -> dict[Quantity, dict[str, float]]:
    """The change of outputs when the same samples come in reverse order; {} where there is none.

    As a share of their own size. Outputs between two samples are reversed along both dimensions.
    """
    indices = range(pair.samples - 1, -1, -1)
    try:
        reverse = passes.output(selected_samples(arguments, pair.along, indices))
        again = passes.output(pair.first)
    except Exception:  # it takes sequences that are sorted by their lengths
        return {}
    if reverse is None or again is None or not first.shape == reverse.shape == again.shape:
        return {}
    axes = [axis for axis in range(first.ndim) if first.shape[axis] == pair.samples]
    size, own, *moved = numbers(
        largest(first - first.mean(0)),
        distances(first, again).amax(),
        *(distances(first, reverse.flip(flipped)).amax() for flipped in ([0], axes)),
    )
    least = max(MIXED * size, 10 * own)
    if size == 0 or not min(moved) > least:
        return {}
    if _have_own_order(first, reverse, least=least):
        place = "own order: "
    elif _is_by_place(passes, arguments, pair, first=first, least=least):
        place = "place in the batch: "
    else:
        return {}
    return {BATCH_MIXING: {"": min(moved) / size}, MIXING_OPERATION: {place: 1.0}}


def _have_own_order(first: Tensor, reverse: Tensor, *, least: float) -> bool:
    """True if both passes give the same rows, in an order that the samples do not have."""
    same = torch.stack([distances(row.expand_as(reverse), reverse) <= least for row in first])
    return bool((same.sum(0) == 1).all() and (same.sum(1) == 1).all())


def _is_by_place(
    passes: EvalPasses, arguments: Arguments, pair: Pair, *, first: Tensor, least: float
) -> bool:
    """True if copies of one sample have other outputs at other places, whichever sample it is.

    Experts of limited capacity tell samples apart by what came before, and not each of them.
    """
    for index in range(1, pair.samples):
        copies = selected_samples(arguments, pair.along, [index] * pair.samples)
        output = passes.output(copies)
        if output is None or output.shape != first.shape:
            return False
        same, other = (distances(output[[place]], first[[index]]) for place in (index, 0))
        if float(same) > least or float(other) <= least:
            return False
    return True


def _reconstructed(forward: ForwardPass) -> tuple[dict[str, float], dict[str, float]]:
    """Spread over samples and ends of the inputs, where the gradient shows they are the targets."""
    output, gradients, inputs = forward.output, forward.gradients, forward.first_input
    if inputs is None or output is None or len(gradients) != 1 or output.ndim < 2:
        return {}, {}
    if inputs.numel() != output.numel() or len(inputs) != len(output) or inputs.dtype.is_complex:
        return {}, {}
    first, errors = _rows(inputs), _rows(gradients[0])
    outputs = _rows(output)
    agreement = torch.stack(
        [
            ((one - first).sign() == errors.sign()).float().mean()
            for one in (outputs, outputs.sigmoid())
        ]
    ).amax()
    size, spread = first.square().mean().sqrt(), (first - first.mean(0)).square().mean().sqrt()
    ends = inputs.amin().float(), inputs.amax().float()
    share, size_number, spread_number, low, high = numbers(agreement, size, spread, *ends)
    if not share > AGREE or not size_number > 0:
        return {}, {}
    return {"inputs": spread_number / size_number}, {"lowest": low, "highest": high}


def _explain(
    passes: EvalPasses, arguments: Arguments, pair: Pair, *, moment: Moment
) -> dict[Quantity, dict[str, float]]:
    """The operation that mixes; or that samples lie along the second dimension, independently."""
    if not _time_is_second(moment) and _independent_along_second(passes, arguments):
        return {BATCH_MIXING: {"": 0.0}}
    mixing = _mixing_operation(passes, pair)
    if mixing is None:
        return {}
    doubtful = mixing.kind in ("reshape", "statistic") and not _is_batch(arguments)
    kind = f"{mixing.kind} of rows" if doubtful else mixing.kind
    return {MIXING_OPERATION: {f"{kind}: {mixing.module}": 1.0}}


def _time_is_second(moment: Moment) -> bool:
    """True for a language model whose targets are the next tokens along the second dimension."""
    targets = token_targets(moment)
    if moment.forward is None or targets is None or targets.ndim != 2:
        return False
    inputs = token_inputs(moment.forward, targets)
    return inputs is not None and is_next_token(inputs.to(targets.device), targets)


def _is_batch(arguments: Arguments) -> bool:
    """False for rows of features, which may as well be the steps of one sequence."""
    first = next(tensors(tuple(arguments)))
    return first.ndim >= 2 + first.is_floating_point()


def _independent_along_second(passes: EvalPasses, arguments: Arguments) -> bool:
    """True if the second dimension is a batch whose samples do not influence each other."""
    pair = batch_pair(arguments, axis=1)
    if pair is None:
        return False
    try:
        first, second = passes.output(pair.first), passes.output(pair.second)
    except Exception:  # the model does not take fewer entries along it: no batch
        return False
    if first is None or second is None or first.shape != second.shape:
        return False
    for axis in (one for one in range(first.ndim) if first.shape[one] == pair.samples):
        moved, mixed = changes(first.movedim(axis, 0), second.movedim(axis, 0), pair)
        highest, moved_most, mixed_most = numbers(first.abs().amax(), moved, mixed)
        if moved_most > rounding(highest) >= mixed_most:
            return True
    return False


def _mixing_operation(passes: EvalPasses, pair: Pair) -> MixingOperation | None:
    outputs = OperationOutputs(pair.samples, pair.changed)
    with running_modules(passes.copy, outputs.stack):
        passes.output(pair.first, mode=outputs)
        outputs.compares = True
        passes.output(pair.second, mode=outputs)
    return outputs.mixing


def _rows(tensor: Tensor) -> Tensor:
    few = tensor[:FEW].float()
    return few.reshape(len(few), -1)
