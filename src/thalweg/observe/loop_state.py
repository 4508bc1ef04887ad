"""Read what the loop has left behind: schedulers, the gradient scaler, the optimizer's settings."""

import sys
from math import isfinite
from types import FrameType
from typing import Any

import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
)

from thalweg.observe.unregistered import live_objects
from thalweg.record import History
from thalweg.record.quantities import (
    PLATEAU_BEST,
    SCALER_SCALE,
    SCHEDULER_CALLS,
    SCHEDULER_HORIZON,
    SCHEDULER_MILESTONE,
    SCHEDULER_WARMUP,
    ZERO_EPS,
)

HALVES = (torch.float16, torch.bfloat16)


def drivers_of(optimizers: tuple[Any, ...]) -> list[Any]:
    """The schedulers of these optimizers and the gradient scalers that are alive.

    Cost: a search of the process's objects.
    """
    objects = live_objects(torch.amp.GradScaler, LRScheduler)
    scalers = [one for one in objects if isinstance(one, torch.amp.GradScaler)]
    return [*schedulers_of(optimizers, objects), *scalers]


def stepping_scaler() -> Any:
    """The gradient scaler within whose `step` this is called, or None. Cost: microseconds."""
    frame: FrameType | None = sys._getframe(1)
    code = torch.amp.GradScaler.step.__code__
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return None if frame is None else frame.f_locals.get("self")


def write_loop_state(
    history: History, step: int, optimizers: tuple[Any, ...], *, objects: list[Any]
) -> None:
    """Record the schedulers' calls and horizons, the loss scaler's factor, an eps that is 0."""
    _write_eps(history, step, optimizers)
    scalers = [one for one in objects if isinstance(one, torch.amp.GradScaler) and _is_used(one)]
    scales = [scaler.get_scale() for scaler in scalers]
    history.add(SCALER_SCALE, step, {"": max(scales, default=1.0)})
    for one in schedulers_of(optimizers, objects):
        if isinstance(one, ReduceLROnPlateau):
            if isinstance(one.best, int | float) and isfinite(one.best):
                history.add(PLATEAU_BEST, step, {one.mode: float(one.best)})
            continue
        name = type(one).__name__
        history.add(SCHEDULER_CALLS, step, {name: float(one.last_epoch)})
        counts = {
            SCHEDULER_HORIZON: horizon_of(one),
            SCHEDULER_MILESTONE: max(getattr(one, "milestones", {}) or {0}),
            SCHEDULER_WARMUP: warmup_of(one),
        }
        for quantity, count in counts.items():
            if count:
                history.add(quantity, step, {name: float(count)})


def schedulers_of(optimizers: tuple[Any, ...], objects: list[Any]) -> list[Any]:
    """The schedulers among the objects that drive these optimizers; of a composed one, no parts."""
    ids = {id(optimizer) for optimizer in optimizers}
    unique = {id(one): one for one in objects if isinstance(one, LRScheduler)}
    drivers = [one for one in unique.values() if id(getattr(one, "optimizer", None)) in ids]
    parts = {id(part) for one in drivers for part in getattr(one, "_schedulers", ())}
    return [one for one in drivers if id(one) not in parts]


def horizon_of(scheduler: Any) -> int:
    """Calls until a schedule has come to its end; 0 for one without an end, as after a warm-up."""
    if isinstance(scheduler, LinearLR | ConstantLR):
        return 0
    for name in ("total_steps", "T_max", "total_iters"):
        value = getattr(scheduler, name, None)
        if isinstance(value, int) and value > 0:
            return value
    keywords = [getattr(fn, "keywords", None) or {} for fn in getattr(scheduler, "lr_lambdas", ())]
    horizons = [each.get("num_training_steps") for each in keywords]  # those of transformers
    return max((each for each in horizons if isinstance(each, int)), default=0)


def warmup_of(scheduler: Any) -> int:
    """Calls that the rise to the full rate takes; 0 for a schedule without one that is known."""
    parts = getattr(scheduler, "_schedulers", ())
    if parts and isinstance(scheduler, SequentialLR):
        return warmup_of(parts[0])
    if isinstance(scheduler, LinearLR):
        return scheduler.total_iters if scheduler.start_factor < scheduler.end_factor else 0
    keywords = [getattr(fn, "keywords", None) or {} for fn in getattr(scheduler, "lr_lambdas", ())]
    warmups = [each.get("num_warmup_steps") for each in keywords]  # those of transformers
    return max((each for each in warmups if isinstance(each, int)), default=0)


def _is_used(scaler: Any) -> bool:
    return scaler.is_enabled() and getattr(scaler, "_scale", None) is not None


def _write_eps(history: History, step: int, optimizers: tuple[Any, ...]) -> None:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    with_eps = [group for group in groups if isinstance(group.get("eps"), float)]
    if not with_eps:
        return
    zero = [w for g in with_eps for w in g["params"] if rounds_to_zero(g["eps"], w.dtype)]
    history.add(ZERO_EPS, step, {"": float(len(zero))})


def rounds_to_zero(eps: float, dtype: torch.dtype) -> bool:
    """True if a positive eps is 0 in the weight's own type, as 1e-8 is in float16."""
    return eps > 0 and dtype in HALVES and float(torch.tensor(eps, dtype=dtype)) == 0
