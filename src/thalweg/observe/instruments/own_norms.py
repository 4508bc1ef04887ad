"""Layers of the user's own that normalise by the batch: the same input in train and in eval mode.

Cost: one forward pass of the last batch when training is over, and four more of each such layer.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.eval_passes import eval_passes
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.sample_independence import numbers, rounding
from thalweg.observe.sample_arguments import arguments_of
from thalweg.record import Quantity
from thalweg.record.quantities import OWN_NORM_GAP, OWN_NORM_STORES

LEAST_SAMPLES = 8  # of a batch; the statistics of fewer say little


@instrument(OWN_NORM_GAP, OWN_NORM_STORES, when="end")
def own_norms(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Difference of a layer's outputs between the modes, and change of its statistics in a pass."""
    forward, arguments = moment.forward, arguments_of(moment.forward)
    if forward is None or arguments is None or not forward.training:
        return {}
    if forward.batch_size < LEAST_SAMPLES or not any(_candidates(moment.model)):
        return {}
    gaps: dict[str, float] = {}
    stores: dict[str, float] = {}
    with eval_passes(moment) as passes:
        frozen = {n for n, m in moment.model.named_modules() if moment.model.training > m.training}
        for name, layer in _candidates(passes.copy):
            if name in frozen:
                continue
            _compare_when_called(name, layer, gaps=gaps, stores=stores)
        passes.output(arguments)
    return {OWN_NORM_GAP: gaps, OWN_NORM_STORES: stores}


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers without layers of their own, of no PyTorch class, with numbers that are no weights."""
    for name, module in model.named_modules():
        own = not type(module).__module__.startswith(("torch.", "thalweg."))
        if own and not module._modules and next(_statistics(module), None) is not None:
            yield name, module


def _statistics(layer: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    """The places of buffers and of plain attributes that hold numbers of several channels."""
    for table in (layer._buffers, vars(layer)):
        for name, one in table.items():
            if isinstance(one, Tensor) and one.is_floating_point() and one.numel() > 1:
                yield table, name


def _compare_when_called(
    name: str, layer: nn.Module, *, gaps: dict[str, float], stores: dict[str, float]
) -> None:
    """Measure the layer on the input of its next call, and leave it in eval mode as it was."""

    def compare(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        handle.remove()
        values = inputs[0] if len(inputs) == 1 else None
        if not isinstance(values, Tensor) or values.ndim < 2 or len(values) < LEAST_SAMPLES:
            return
        before = [(table, key, table[key].clone()) for table, key in _statistics(layer)]
        with suppress(RuntimeError, TypeError, ValueError):  # it takes this one input alone
            measured = _measure(layer, values.detach(), before)
            if measured is not None:
                gaps[name], stores[name] = measured
        for table, key, old in before:
            table[key] = old
        layer.eval()

    handle = layer.register_forward_pre_hook(compare)


def _measure(
    layer: nn.Module, values: Tensor, before: list[tuple[dict[str, Any], str, Tensor]]
) -> tuple[float, float] | None:
    """(Gap, 1 where a pass in train mode changes the statistics); None for no batch statistics."""
    half = len(values) // 2
    others = torch.cat([values[:half], 2 * values[half:] + 1])

    def output(inputs: Tensor, *, training: bool) -> Tensor | None:
        result = layer.train(training).forward(inputs.clone())
        fits = isinstance(result, Tensor) and result.shape == values.shape
        return result.detach().float() if fits else None

    evaluated, evaluated_others = output(values, training=False), output(others, training=False)
    trained = output(values, training=True)
    stores = any(not torch.equal(table[key], old) for table, key, old in before)
    again, trained_others = output(values, training=True), output(others, training=True)
    every = evaluated, evaluated_others, trained, again, trained_others
    if any(one is None or not bool(one.isfinite().all()) for one in every):
        return None
    first, second, third, fourth, fifth = (one for one in every if one is not None)
    noise, mixed, mixed_in_eval, apart, spread, highest = numbers(
        (third - fourth).abs().amax(),
        (third - fifth)[:half].abs().amax(),
        (first - second)[:half].abs().amax(),
        (first - third).square().mean().sqrt(),
        (third - third.mean(0)).square().mean().sqrt(),
        third.abs().amax(),
    )
    least = max(rounding(highest), 0.01 * spread)
    by_batch = noise <= least < mixed and mixed_in_eval <= least
    return (apart / spread, float(stores)) if by_batch and spread > 0 else None
