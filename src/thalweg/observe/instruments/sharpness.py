"""Curvature while training: the largest eigenvalue now and then, and at the end a look for saddles.

Not in the table of instruments: their cost, some dozens of gradients a reading, is asked for by
name: `watch(..., sharpness=True)`, or `thalweg train --watch.sharpness`.
"""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.curvature import Surface, critical_point
from thalweg.curvature import sharpness as largest
from thalweg.curvature.sharpness import felt_sharpness, form_of
from thalweg.observe.instrument import Moment, Reading, survey
from thalweg.record import Quantity
from thalweg.record.quantities import ESCAPE_GAIN, SADDLE_CURVATURE, SHARPNESS, SHARPNESS_RATIO

SAMPLES = 256  # λmax of so few is within some percent of that of all
_LAST: "WeakKeyDictionary[nn.Module, Tensor]" = WeakKeyDictionary()  # to start the next one warm

Sample = tuple[Tensor, Tensor]


@survey(SHARPNESS, SHARPNESS_RATIO, when="probe", wants_samples=True)
def sharpness(moment: Moment) -> Mapping[Quantity, Reading]:
    """λmax of the loss on a sample, and as the optimizer feels it over what it can stand.

    A dozen times a run, and then rarer. Source: Cohen et al. 2021; 2022 for Adam.
    """
    sample, loss_fn = _sample(moment), moment.loss_fn
    if sample is None or loss_fn is None:
        return {}
    found = largest(
        moment.model, loss_fn, [sample], start=_LAST.get(moment.model), batch_norm="as-found"
    )
    _LAST[moment.model] = found.vector
    reading: dict[Quantity, Reading] = {SHARPNESS: {"": found.value}}
    optimizer = moment.optimizers[0] if len(moment.optimizers) == 1 else None
    if optimizer is not None and _is_known(optimizer):
        with Surface(moment.model, loss_fn, [sample], batch_norm="as-found") as surface:
            reading[SHARPNESS_RATIO] = {"": felt_sharpness(surface, optimizer).ratio}
    return reading


@survey(SADDLE_CURVATURE, ESCAPE_GAIN, when="end")
def standing(moment: Moment) -> Mapping[Quantity, Reading]:
    """Whether training ended on a saddle: curvature confirmed by other samples, and what it gains.

    Zero of both where the point is no saddle. Cost: about 300 products.
    """
    sample, loss_fn = _sample(moment), moment.loss_fn
    if sample is None or loss_fn is None:
        return {}
    found = critical_point(moment.model, loss_fn, [sample], batch_norm="as-found", exact_up_to=0)
    if found.verdict != "saddle" or found.held_out is None or found.escape is None:
        return {SADDLE_CURVATURE: {"": 0.0}, ESCAPE_GAIN: {"": 0.0}}
    share = found.escape.measured / max(abs(found.loss), 1e-12)
    return {SADDLE_CURVATURE: {"": found.held_out.upper}, ESCAPE_GAIN: {"": share}}


CURVATURE = (sharpness, standing)


def _sample(moment: Moment) -> Sample | None:
    samples = moment.train
    if samples is None or samples.targets is None:
        return None
    return samples.inputs[:SAMPLES], samples.targets[:SAMPLES]


def _is_known(optimizer: Optimizer) -> bool:
    """Whether a threshold is known for it; Adam's needs a step's worth of state."""
    form = form_of(optimizer)
    ready = form == "sgd" or all(
        weight in optimizer.state for group in optimizer.param_groups for weight in group["params"]
    )
    return form is not None and ready and bool(optimizer.param_groups[0].get("lr"))
