"""Work on rows by as many threads as there are processors."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from thalweg.data.images.background_decoding import ROWS_PER_TASK

Result = TypeVar("Result")
TASKS_AHEAD = 64  # submitted at once, so that what waits in the queue stays small


def in_threads(
    work: Callable[[int], Result],
    rows: Sequence[int] | np.ndarray,
    *,
    at_once: int = ROWS_PER_TASK,
    threads: int = 0,
) -> Generator[Result]:
    """`work` of each row, in order, by so many threads; 0: as many as there are processors."""

    def task(start: int) -> list[Result]:
        return [work(int(row)) for row in rows[start : start + at_once]]

    ahead = at_once * TASKS_AHEAD
    with ThreadPoolExecutor(max_workers=threads or num_threads()) as pool:
        for first in range(0, len(rows), ahead):
            starts = range(first, min(first + ahead, len(rows)), at_once)
            for results in pool.map(task, starts):
                yield from results


def num_threads() -> int:
    """As many as there are processors for this process, up to 32."""
    return min(32, len(os.sched_getaffinity(0)))
