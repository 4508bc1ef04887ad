"""The running statistics of batch norms, beside those of a real batch.

Cost: two forward passes of the last batch, when training is over.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from thalweg.observe.bare_copy import bare_module
from thalweg.observe.eval_passes import EvalPasses, eval_passes
from thalweg.observe.forward_pass import ForwardPass
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.sample_independence import numbers
from thalweg.observe.sample_arguments import arguments_of
from thalweg.record import Quantity
from thalweg.record.quantities import (
    MODE_GAP,
    NORM_AT_START,
    NORM_BATCHES,
    NORM_GAP,
    NORM_MOMENTUM,
    NORM_NOISE,
)

LEAST_SAMPLES = 8  # of a batch; the statistics of fewer say little
WRAPPERS = ("", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.")
BatchNorm = nn.modules.batchnorm._BatchNorm


class Statistics(NamedTuple):
    """One batch norm's running statistics beside those of its input."""

    gap: Tensor  # |running mean − mean| / std, of the median channel
    noise: Tensor  # standard error of the batch's mean / std, of the median channel


@instrument(NORM_MOMENTUM, NORM_BATCHES, NORM_AT_START, NORM_GAP, NORM_NOISE, MODE_GAP, when="end")
def norm_statistics(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Momentum, batches averaged over, and fit of each batch norm with running statistics."""
    norms = tracked_norms(bare_module(moment.model))
    if not norms:
        return {}
    measured: dict[Quantity, Measurements] = {
        NORM_MOMENTUM: {name: one.momentum or 0.0 for name, one in norms.items()},
        NORM_BATCHES: {
            name: one.num_batches_tracked.float()
            for name, one in norms.items()
            if one.num_batches_tracked is not None
        },
        NORM_AT_START: {name: _is_at_start(one) for name, one in norms.items()},
    }
    forward, arguments = moment.forward, arguments_of(moment.forward)
    if forward is None or arguments is None or forward.batch_size < LEAST_SAMPLES:
        return measured
    with eval_passes(moment) as passes:
        try:
            evaluated = passes.output(arguments)
            statistics = _read_statistics(passes, forward)
            trained = passes.output(arguments)
        except ValueError:  # one value a channel
            return measured
    measured[NORM_GAP] = {name: one.gap for name, one in statistics.items()}
    measured[NORM_NOISE] = {name: one.noise for name, one in statistics.items()}
    if evaluated is not None and trained is not None and evaluated.shape == trained.shape:
        measured[MODE_GAP] = _mode_gap(evaluated, trained)
    return measured


def tracked_norms(model: nn.Module) -> dict[str, Any]:
    """Batch norms with running statistics, by name."""
    return {
        name: one
        for name, one in model.named_modules()
        if isinstance(one, BatchNorm) and one.running_mean is not None
    }


def _is_at_start(norm: Any) -> Tensor:
    """1 where the statistics are those of a new layer: mean 0, variance 1."""
    return ((norm.running_mean == 0).all() & (norm.running_var == 1).all()).float()


def _read_statistics(passes: EvalPasses, forward: ForwardPass) -> dict[str, Statistics]:
    """Put the batch norms that were trained in train mode; their next inputs fill the result."""
    statistics: dict[str, Statistics] = {}

    def read(name: str, norm: Any, inputs: tuple[Tensor, ...]) -> None:
        if name not in statistics and len(inputs[0]) >= LEAST_SAMPLES:
            statistics[name] = _statistics(norm, inputs[0].detach().float())

    for name, norm in tracked_norms(passes.copy).items():
        if any(forward.modes.get(prefix + name) for prefix in WRAPPERS):
            norm.train()
            norm.register_forward_pre_hook(lambda norm, inputs, name=name: read(name, norm, inputs))
    return statistics


def _statistics(norm: Any, inputs: Tensor) -> Statistics:
    by_channel = inputs.movedim(1, -1).flatten(1, -2) if inputs.ndim > 2 else inputs[:, None]
    means = by_channel.mean(1)  # [sample, channel]
    std = by_channel.flatten(0, 1).std(0).clamp_min(1e-12)
    gap = (norm.running_mean.float() - means.mean(0)).abs() / std
    noise = means.std(0) / std / len(inputs) ** 0.5
    return Statistics(gap.median(), noise.median())


def _mode_gap(evaluated: Tensor, trained: Tensor) -> dict[str, float]:
    """Difference of the outputs with running and with the batch's statistics, in their spread."""
    difference = (evaluated - trained).square().mean().sqrt()
    spread = (trained - trained.mean(0)).square().mean().sqrt()
    apart, own = numbers(difference, spread)
    return {"": apart / own} if own > 0 else {}
