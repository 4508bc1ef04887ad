"""Recognise a model that is trained on the next value of its own inputs, by a squared error.

The gradient of a squared error at the output is its distance from the target times one factor:
where that holds for the inputs one place further on, these are the targets.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.observe.forward_pass import ForwardPass, tensors
from thalweg.observe.sample_arguments import Arguments
from thalweg.observe.token_targets import Targets, class_last

LEAST = 32  # numbers that are compared
MOST_FEATURES = 32  # of which one may be predicted
EXACT = 1e-3  # of the gradient: rounding alone
FAR = 0.1  # of the gradient: what another offset must miss


class ValueTargets(NamedTuple):
    """An argument whose next values are the targets."""

    position: int  # among the tensors of the arguments
    dims: tuple[int, int]  # of the argument: rows, and columns along which time runs
    targets: Targets


def value_targets(arguments: Arguments, forward: ForwardPass) -> Iterator[ValueTargets]:
    """Arguments of real values, as long as the output, that hold its targets one place on."""
    output, gradients = forward.output, forward.gradients
    if output is None or not forward.is_whole or len(gradients) != 1:
        return
    gradient = gradients[0].detach()
    if gradient.shape != output.shape or not output.is_floating_point():
        return
    for position, one in enumerate(tensors(tuple(arguments))):
        if not one.is_floating_point() or not 2 <= one.ndim <= 3:
            continue
        for name, dims in (("last", (0, 1)), ("second", (0, 2)), ("first", (1, 0))):
            fields = [_by_time(tensor, name) for tensor in (one.detach(), output, gradient)]
            if any(field is None for field in fields):
                continue
            inputs, outputs, slopes = (field.float() for field in fields if field is not None)
            if _predicts_next(inputs, outputs, slopes):
                yield ValueTargets(position, dims, _targets(slopes, name))


def _by_time(tensor: Tensor, features: str) -> Tensor | None:
    """[sequence, time, feature], where the features are last or second, or time is first."""
    if tensor.ndim == 2:
        plain = tensor if features == "last" else tensor.T if features == "first" else None
        return None if plain is None else plain[..., None]
    if tensor.ndim != 3:
        return None
    return {"last": tensor, "second": tensor.movedim(1, 2), "first": tensor.movedim(0, 1)}[features]


def _predicts_next(inputs: Tensor, outputs: Tensor, slopes: Tensor) -> bool:
    """True if all outputs, or the only one of each place, are compared with the next inputs."""
    if inputs.shape[:2] != outputs.shape[:2] or inputs.shape[1] < 3:
        return False
    if inputs.shape[2] == outputs.shape[2]:
        return _is_shifted(inputs, outputs, slopes)
    if outputs.shape[2] != 1 or inputs.shape[2] > MOST_FEATURES:
        return False
    return any(_is_shifted(inputs[..., [i]], outputs, slopes) for i in range(inputs.shape[2]))


def _is_shifted(inputs: Tensor, outputs: Tensor, slopes: Tensor) -> bool:
    slopes, here, following = slopes[:, :-1], inputs[:, :-1], inputs[:, 1:]
    active = slopes != 0
    if int(active.sum()) < LEAST:
        return False
    distances = (outputs[:, :-1] - one for one in (following, here))
    shifted, same = (_misfit(one[active], slopes[active]) for one in distances)
    return shifted < EXACT and same > FAR


def _misfit(distances: Tensor, slopes: Tensor) -> float:
    """Largest deviation of the slopes from a multiple of the distances, in their own size."""
    factor = (distances @ slopes) / distances.square().sum().clamp_min(1e-30)
    largest, size = (slopes - factor * distances).abs().amax(), slopes.abs().amax()
    return float(largest / size) if bool(factor > 0) else float("inf")


def _targets(slopes: Tensor, name: str) -> Targets:
    active = (slopes != 0).any(2).cpu()
    rows, columns = (torch.arange(length) for length in active.shape)
    arrange = {"last": _features_last, "second": class_last, "first": _time_first}[name]
    shape = (*active.shape, slopes.shape[2])
    return Targets(
        torch.zeros_like(active, dtype=torch.long), active, rows, columns, shape, arrange
    )


def _features_last(output: Tensor, _shape: tuple[int, int]) -> Tensor | None:
    return _by_time(output, "last")


def _time_first(output: Tensor, _shape: tuple[int, int]) -> Tensor | None:
    return _by_time(output, "first")
