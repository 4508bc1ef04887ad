"""Measure, then choose: how a step of this model, on this batch, is fastest on this machine.

Nothing is assumed: the same bfloat16 convolution is four times as fast on one processor and sixteen
times slower on another (pytorch#183815). One thing is changed at a time, beginning with what gains
most; a challenger is timed in turns with the fastest so far, dropped after one step where it is
clearly slower, and checked against float32 before it may win. What fails is dropped, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from thalweg.borrow import Subject, preserve_random_state
from thalweg.planning.speed.benchmark import Contest, Row, contest
from thalweg.training.numerics import Setting

MOST_SECONDS = 5.0  # that a measurement may take, a compiler's work apart
SHARE = 0.1  # of the run's time that a measurement may take
LEAST_RUN = 10.0  # s; what a shorter run could save, nobody feels
LEAST_RUN_ON_GPU = 2.0  # s; a step takes ms there, so that a choice costs less. Not yet measured
COST = 3  # whole steps that a measurement takes, about
WORTH_COMPILING = 3600.0  # s that a run must take: a compiler works for a minute or two
WORTH_COMPILING_ON_CPU = 4 * 3600.0  # it has gained nothing there yet: convolutions stay oneDNN's
Values = Callable[[Setting, float], tuple[Any, ...]]  # of the best so far and its seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is best, and what was tried to find it."""

    chosen: Setting
    rows: tuple[Row, ...] = ()  # none where nothing was measured
    note: str = ""  # one sentence for the user


def measured(
    subject: Subject,
    start: Setting,
    *,
    steps: int,
    fixed: frozenset[str] = frozenset(),
    always: bool = False,
) -> Measured:
    """The fastest setting that is exact enough, found from `start` on; fields in `fixed` stay.

    `start` itself where `steps` updates would be over before a measurement pays, unless `always`,
    and where the model fails even in float32. The model and all random states are left alone.
    """
    if not always and steps * SHARE < COST:
        return Measured(chosen=start, note=f"precision not measured: only {steps} steps")
    device = subject.batches[0].inputs.device
    with preserve_random_state():
        try:
            found = contest(subject, start)
            step = found.time_of(start)
        except Exception as error:  # training will meet it again, and say it better
            reason = " ".join(str(error).split())[:80]
            return Measured(chosen=start, note=f"precision not measured: {reason}")
        if not found.reference.is_usable:
            return Measured(chosen=start, note="precision not measured: the gradient says nothing")
        run = steps * step
        least = LEAST_RUN_ON_GPU if device.type == "cuda" else LEAST_RUN
        if not always and run < least:
            return Measured(chosen=start, note=_too_short(steps, step))
        limit = MOST_SECONDS if always else min(MOST_SECONDS, SHARE * run)
        return _searched(found, start, fixed=fixed, run=run, limit=limit)


def _too_short(steps: int, step: float) -> str:
    return f"precision not measured: {steps} steps of {1000 * step:.0f} ms are soon done"


def _searched(
    found: Contest, start: Setting, *, fixed: frozenset[str], run: float, limit: float
) -> Measured:
    best = first = _exact_start(found, start, fixed)
    deadline = perf_counter() + limit
    for axis, values in _axes(found.subject.batches[0].inputs, run / found.time_of(start)):
        for value in () if axis in fixed else values(best, found.time_of(best)):
            challenger = replace(best, **{axis: value})
            late = perf_counter() > deadline and axis != "compile"
            if not late and found.wins(challenger, best):
                best = challenger
            found.keep_only(best)
    gain = found.time_of(first) / found.time_of(best)
    note = f"computes in {best}"
    note += f": {gain:.1f} times as fast as in {first}" if best != first else ": nothing is faster"
    return Measured(chosen=best, rows=found.rows(best), note=note)


def _exact_start(found: Contest, start: Setting, fixed: frozenset[str]) -> Setting:
    """The start, or plain float32 where the start is not exact and may be changed."""
    kept = {name: getattr(start, name) for name in (*fixed, "threads")}
    plain = replace(Setting(), **kept)
    return start if found.is_exact(start) else plain


def _axes(inputs: torch.Tensor, steps: float) -> Iterator[tuple[str, Values]]:
    """What is tried, in order: a field of the setting, and its other values."""
    images, threads = inputs.ndim == 4, torch.get_num_threads()
    yield "dtype", lambda best, _: ("bfloat16",) if best.dtype == "float32" else ()
    if images:  # after the type: the better order may be another for another type
        yield "channels_last", lambda best, _: (not best.channels_last,)
    # In bfloat16 no large product is left for it.
    yield "matmul", lambda best, _: ("high", "medium") if best.dtype == "float32" else ()
    if inputs.device.type == "cpu" and threads > 1:
        yield "threads", lambda best, _: (threads // 2, 1) if threads > 3 else (1,)
    least = WORTH_COMPILING_ON_CPU if inputs.device.type == "cpu" else WORTH_COMPILING
    yield "compile", lambda best, step: (True,) if steps * step > least else ()
