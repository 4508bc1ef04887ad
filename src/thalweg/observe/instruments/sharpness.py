"""Curvature while training: the largest eigenvalue now and then, and at the end a test for saddles.

Not in the table of instruments: some dozens of gradients a reading are measured on request, by
`watch(..., sharpness=True)`, or `thalweg train --watch.sharpness`.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer

from thalweg.curvature import Surface, critical_point
from thalweg.curvature import sharpness as largest_eigenvalue
from thalweg.curvature.sharpness import preconditioned_sharpness, threshold_form
from thalweg.observe.instrument import Instrument, Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import ESCAPE_GAIN, SADDLE_CURVATURE, SHARPNESS, SHARPNESS_RATIO

SAMPLES = 256  # λmax of so few is within some percent of that of all


def curvature_instruments() -> tuple[Instrument, ...]:
    """The instruments of one training: `sharpness` starts from its last eigenvector."""
    return _sharpness(), saddle


def _sharpness() -> Instrument:
    vector: Tensor | None = None

    @instrument(SHARPNESS, SHARPNESS_RATIO, when="probe", needs_samples=True)
    def sharpness(moment: Moment) -> Mapping[Quantity, Measurements]:
        """λmax of the loss on a sample, and as the optimizer feels it over its stability limit.

        A dozen times a run, and then rarer. Source: Cohen et al. 2021; 2022 for Adam.
        """
        nonlocal vector
        batch, loss_fn = _batch(moment), moment.loss_fn
        if batch is None or loss_fn is None:
            return {}
        eigenpair = largest_eigenvalue(
            moment.model, loss_fn, [batch], start=vector, batch_norm="as-found"
        )
        vector = eigenpair.vector
        measured: dict[Quantity, Measurements] = {SHARPNESS: {"": eigenpair.value}}
        optimizer = moment.optimizers[0] if len(moment.optimizers) == 1 else None
        if optimizer is not None and _has_threshold(optimizer):
            with Surface(moment.model, loss_fn, [batch], batch_norm="as-found") as surface:
                measured[SHARPNESS_RATIO] = {"": preconditioned_sharpness(surface, optimizer).ratio}
        return measured

    return sharpness


@instrument(SADDLE_CURVATURE, ESCAPE_GAIN, when="end")
def saddle(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Negative curvature where training ended, confirmed by other samples, and the gain from it.

    Both are zero where the point is no saddle. Cost: about 300 products.
    """
    batch, loss_fn = _batch(moment), moment.loss_fn
    if batch is None or loss_fn is None:
        return {}
    point = critical_point(moment.model, loss_fn, [batch], batch_norm="as-found", exact_up_to=0)
    if point.verdict != "saddle" or point.held_out is None or point.escape is None:
        return {SADDLE_CURVATURE: {"": 0.0}, ESCAPE_GAIN: {"": 0.0}}
    share = point.escape.measured / max(abs(point.loss), 1e-12)
    return {SADDLE_CURVATURE: {"": point.held_out.upper}, ESCAPE_GAIN: {"": share}}


def _batch(moment: Moment) -> tuple[Tensor, Tensor] | None:
    train = moment.train
    if train is None or train.targets is None:
        return None
    return train.inputs[:SAMPLES], train.targets[:SAMPLES]


def _has_threshold(optimizer: Optimizer) -> bool:
    """True if its stability limit is known; Adam's needs a step's worth of state."""
    form = threshold_form(optimizer)
    ready = form == "sgd" or all(
        weight in optimizer.state for group in optimizer.param_groups for weight in group["params"]
    )
    return form is not None and ready and bool(optimizer.param_groups[0].get("lr"))
