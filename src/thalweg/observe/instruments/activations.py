"""Probe the model: one forward pass of a copy, in which every operation is measured.

Cost: one forward pass of at most 512 samples, a dozen times a run.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.bare_copy import check_copyable, has_forward
from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.guard import NotMeasurableError
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.operation_recorder import record_forward
from thalweg.record import Quantity
from thalweg.record.quantities import (
    ACTIVATION_STD,
    DEAD_UNITS,
    INPUT_OFFSET,
    INPUT_STD,
    LAYERS,
    NONLINEARITIES,
    NORM_SAMPLES,
    SATURATED,
    USELESS_BIAS,
)

MOST_SAMPLES = 512  # enough to distinguish a dead unit from a rare one
LEAST_SAMPLES = 128  # a unit silent on fewer says little
LEAST_VALUES = 16  # of one feature; fewer do not show its spread
MANY_FEATURES = 16
Arguments = tuple[tuple[Any, ...], Mapping[str, Any], int]  # inputs, keywords, samples


@instrument(
    DEAD_UNITS,
    SATURATED,
    ACTIVATION_STD,
    LAYERS,
    NONLINEARITIES,
    USELESS_BIAS,
    NORM_SAMPLES,
    INPUT_STD,
    INPUT_OFFSET,
    when="probe",
)
def activations(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Dead units, saturation, scale by depth, linearity, and the scale of the first input."""
    check_copyable(moment.model)
    if not has_forward(moment.model):
        raise NotMeasurableError(
            "the model has no forward of its own", seen=type(moment.model).__name__
        )
    arguments = probe_arguments(moment)
    if arguments is None:
        return {}
    inputs, keywords, samples = arguments
    try:
        with moment.autocast():
            record = record_forward(moment.model, inputs, keywords)
        if moment.train is not None:
            moment.shared.train_outputs = record.outputs
    except Exception:  # it may take nothing but the batches that it is given, as a graph's nodes
        if moment.forward is None or moment.forward.first_input is None:
            raise
        inputs, keywords, samples = _arguments_of(moment.forward)
        with moment.autocast():
            record = record_forward(moment.model, inputs, keywords)
    moment.shared.called = frozenset(record.called)
    whole = 0 if moment.forward is None else moment.forward.batch_size
    batch_size = whole or samples
    depth = record.nonlinearities
    measured: dict[Quantity, Measurements] = {
        ACTIVATION_STD: record.stds,
        SATURATED: record.saturated or {"": 0.0},
        USELESS_BIAS: record.useless_bias,
        NORM_SAMPLES: {name: each * batch_size for name, each in record.norm_samples.items()},
    }
    if record.layers:
        factored = _is_factorisation(moment.model, record.layers)
        measured[LAYERS] = {"": 1.0 if factored else float(len(record.layers))}
        measured[NONLINEARITIES] = {"": float(depth[-1] - depth[0])}
    if samples >= LEAST_SAMPLES:
        measured[DEAD_UNITS] = record.dead or {"": 0.0}
    if record.first_input is not None and record.first_input.numel() > 1:
        measured |= _input_scale(record.first_input)
    return measured


def _is_factorisation(model: nn.Module, layers: Iterable[str]) -> bool:
    """True of two matrices that meet in fewer dimensions than either end has.

    No single layer does the same: word vectors, matrix factorisation, a linear autoencoder.
    """
    weights = [getattr(model.get_submodule(name), "weight", None) for name in layers]
    shapes = [w.shape for w in weights if isinstance(w, Tensor) and w.ndim == 2]
    if len(weights) != 2 or len(shapes) != 2:
        return False
    (waist, inputs), (outputs, _) = shapes
    return bool(waist < min(inputs, outputs))


def _input_scale(inputs: Tensor) -> dict[Quantity, Measurements]:
    """Spread and offset by feature (vectors) or by channel (images, sequences)."""
    if inputs.layout != torch.strided:
        return {}
    unit = 1 if inputs.ndim in (2, 4, 5) else inputs.ndim - 1
    features = inputs.movedim(unit, 0).flatten(1)
    if features.shape[1] < LEAST_VALUES:
        return {}
    stds, means = torch.stack([features.std(1), features.mean(1)]).tolist()  # one wait
    pairs = [
        (std, abs(mean) / std)
        for std, mean in zip(stds, means, strict=True)
        if std > 1e-8 * max(abs(mean), 1e-8)
    ]
    if not pairs:
        return {}
    stds, offsets = sorted(std for std, _ in pairs), sorted(offset for _, offset in pairs)
    edge = len(stds) // 10 if len(stds) > MANY_FEATURES else 0  # an odd pixel is no odd feature
    middle = (len(stds) - 1) // 2
    ends = {"lowest": stds[edge], "median": stds[middle], "highest": stds[-1 - edge]}
    return {INPUT_STD: ends, INPUT_OFFSET: {"": offsets[middle]}}


def probe_arguments(moment: Moment) -> Arguments | None:
    """Arguments for the model: training samples if it takes one tensor, else the last batch."""
    forward, train = moment.forward, moment.train
    device = next((w.device for w in moment.model.parameters()), torch.device("cpu"))
    if train is not None and (forward is None or takes_alone(moment, train.inputs)):
        inputs = train.part(moment.affordable(MOST_SAMPLES)).inputs.to(device)
        return (inputs,), {}, len(inputs)
    return None if forward is None or forward.first_input is None else _arguments_of(forward)


def _arguments_of(forward: ForwardPass) -> Arguments:
    first = forward.first_input
    samples = len(first) if first is not None and first.ndim else 0
    return forward.inputs, forward.keywords, samples


def takes_alone(moment: Moment, inputs: Tensor) -> bool:
    """True if the model was called with one tensor of such samples, in training or validation.

    Training may have ended with smaller images than validation has.
    """
    return any(_took_alone(forward, inputs) for forward in (moment.forward, moment.validation))


def _took_alone(forward: ForwardPass | None, inputs: Tensor) -> bool:
    if forward is None or len(forward.inputs) != 1 or forward.keywords:
        return False
    argument = forward.inputs[0]
    return (
        isinstance(argument, Tensor)
        and argument.shape[1:] == inputs.shape[1:]
        and argument.dtype == inputs.dtype
    )
