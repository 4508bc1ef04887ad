"""Map a function over rows with as many threads as processors."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from thalweg.data.images.background_decoding import ROWS_PER_TASK

Result = TypeVar("Result")
QUEUED_TASKS = 64  # submitted at once, so that the queue stays short


def in_threads(
    work: Callable[[int], Result],
    rows: Sequence[int] | np.ndarray,
    *,
    at_once: int = ROWS_PER_TASK,
    threads: int = 0,
) -> Generator[Result]:
    """Yield `work(row)` for each row, in order; `threads=0`: as many as there are processors."""

    def task(start: int) -> list[Result]:
        return [work(int(row)) for row in rows[start : start + at_once]]

    queued = at_once * QUEUED_TASKS
    with ThreadPoolExecutor(max_workers=threads or num_threads()) as pool:
        for first in range(0, len(rows), queued):
            starts = range(first, min(first + queued, len(rows)), at_once)
            for results in pool.map(task, starts):
                yield from results


def num_threads() -> int:
    """The number of processors of this process, at most 32."""
    return min(32, len(os.sched_getaffinity(0)))
