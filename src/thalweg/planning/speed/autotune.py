"""Autotune the numerics of a step of this model, on this batch, by timing it on this machine.

Nothing is assumed: the same bfloat16 convolution is four times as fast on one processor and sixteen
times slower on another (pytorch#183815). One field of the numerics changes at a time, the most
rewarding first. A candidate is timed alternately with the fastest so far, dropped after one step if
it is clearly slower, and checked against float32 before it wins. One that fails is dropped, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from thalweg.borrow import Subject, preserve_random_state
from thalweg.data.batch import Inputs, tensors_of
from thalweg.observe.compiler import preserve_compiler
from thalweg.planning.speed.benchmark import Benchmark, NumericsResult, start_benchmark
from thalweg.training.numerics import Numerics

MAX_SECONDS = 5.0  # of autotuning, compilation apart
MAX_SHARE = 0.1  # of the run's time for autotuning
MIN_RUN = 10.0  # s; a shorter run has nothing to gain
MIN_RUN_ON_GPU = 2.0  # s; steps take milliseconds there, so autotuning costs less. Not yet measured
COST = 3  # steps that autotuning takes, about
COMPILE_FROM = 3600.0  # s of a run: compilation takes a minute or two
COMPILE_ON_CPU_FROM = 4 * 3600.0  # s: no gain seen there yet, convolutions stay with oneDNN
Values = Callable[[Numerics, float], tuple[Any, ...]]  # of the best so far and its seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class AutotuneResult:
    """The chosen numerics, and all candidates with their times and errors."""

    chosen: Numerics
    rows: tuple[NumericsResult, ...] = ()  # empty if nothing was measured
    note: str = ""  # one sentence for the user


def autotune(
    subject: Subject,
    start: Numerics,
    *,
    steps: int,
    fixed: frozenset[str] = frozenset(),
    always: bool = False,
) -> AutotuneResult:
    """Search for the fastest numerics that are accurate enough, beginning at `start`.

    Fields in `fixed` stay. The result is `start` itself if `steps` updates are too few for
    autotuning to pay (unless `always`), or if the model fails in float32. The model, all random
    states and the compiler are left as they were.
    """
    if not always and steps * MAX_SHARE < COST:
        return AutotuneResult(chosen=start, note=f"precision not measured: only {steps} steps")
    device = subject.batches[0].targets.device
    with preserve_random_state(), preserve_compiler():
        try:
            benchmark = start_benchmark(subject, start)
            step = benchmark.step_seconds(start)
        except Exception as error:  # training will raise it again, with a better message
            reason = " ".join(str(error).split())[:80]
            return AutotuneResult(chosen=start, note=f"precision not measured: {reason}")
        if not benchmark.reference.is_usable:
            return AutotuneResult(
                chosen=start, note="precision not measured: the gradient is zero or not finite"
            )
        run = steps * step
        shortest = MIN_RUN_ON_GPU if device.type == "cuda" else MIN_RUN
        if not always and run < shortest:
            return AutotuneResult(chosen=start, note=_too_short(steps, step))
        limit = MAX_SECONDS if always else min(MAX_SECONDS, MAX_SHARE * run)
        return _search(benchmark, start, fixed=fixed, run=run, limit=limit)


def _too_short(steps: int, step: float) -> str:
    return f"precision not measured: {steps} steps of {1000 * step:.0f} ms are too short a run"


def _search(
    benchmark: Benchmark, start: Numerics, *, fixed: frozenset[str], run: float, limit: float
) -> AutotuneResult:
    best = first = _accurate_start(benchmark, start, fixed)
    deadline = perf_counter() + limit
    for axis, values in _axes(
        benchmark.subject.batches[0].inputs, run / benchmark.step_seconds(start)
    ):
        for value in () if axis in fixed else values(best, benchmark.step_seconds(best)):
            candidate = replace(best, **{axis: value})
            late = perf_counter() > deadline and axis != "compile"
            if not late and benchmark.is_better(candidate, best):
                best = candidate
            benchmark.free_all_but(best)
    gain = benchmark.step_seconds(first) / benchmark.step_seconds(best)
    note = f"computes in {best}"
    note += f": {gain:.1f} times as fast as in {first}" if best != first else ": nothing is faster"
    return AutotuneResult(chosen=best, rows=benchmark.results(best), note=note)


def _accurate_start(benchmark: Benchmark, start: Numerics, fixed: frozenset[str]) -> Numerics:
    """The start; if it is not accurate, plain float32 in all fields that may change."""
    plain = replace(Numerics(), **{name: getattr(start, name) for name in (*fixed, "threads")})
    return start if benchmark.is_accurate(start) else plain


def _axes(inputs: Inputs, steps: float) -> Iterator[tuple[str, Values]]:
    """Fields of the numerics with the values to try, in order."""
    tensors, threads = tensors_of(inputs), torch.get_num_threads()
    images, device = any(tensor.ndim == 4 for tensor in tensors), tensors[0].device.type
    yield "dtype", lambda best, _: ("bfloat16",) if best.dtype == "float32" else ()
    if images:  # after dtype: the faster layout depends on it
        yield "channels_last", lambda best, _: (not best.channels_last,)
    # In bfloat16 no large float32 product is left that it could speed up.
    yield "matmul", lambda best, _: ("high", "medium") if best.dtype == "float32" else ()
    if device == "cpu" and threads > 1:
        yield "threads", lambda best, _: (threads // 2, 1) if threads > 3 else (1,)
    shortest = COMPILE_ON_CPU_FROM if device == "cpu" else COMPILE_FROM
    yield "compile", lambda best, step: (True,) if steps * step > shortest else ()
