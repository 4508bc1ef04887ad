"""The next batches, made by threads while the present one is being learnt from."""

import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import count

import torch

from thalweg.data.batch import Batch


def threads_to_spare(device: torch.device) -> int:
    """Threads that may make batches without taking a core from the steps: 0, 1 or 2.

    On a CPU whose every core computes the step, a batch made meanwhile only slows that down.
    """
    if device.type != "cpu":
        return 2
    return max(0, min(2, len(os.sched_getaffinity(0)) - torch.get_num_threads()))


def made_ahead(
    make: Callable[[int], Batch], start: int, *, threads: int, device: torch.device
) -> Generator[Batch]:
    """make(start), make(start + 1), … without end, each begun while those before are in use.

    What `make` raises is raised where its batch is asked for. When the iterator is closed, the
    threads end: whoever stops early closes it, or lets go of it.
    """
    side = torch.cuda.Stream(device) if device.type == "cuda" else None
    if side is not None:
        side.wait_stream(torch.cuda.current_stream(device))  # for what the batches are made from

    def made(number: int) -> tuple[Batch, torch.cuda.Event | None]:
        with nullcontext() if side is None else torch.cuda.stream(side):
            batch = make(number)
            return batch, None if side is None else side.record_event()

    pool = ThreadPoolExecutor(threads, "batches", initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[tuple[Batch, torch.cuda.Event | None]]] = deque()
    try:
        for number in count(start):
            while len(waiting) <= threads:
                waiting.append(pool.submit(made, number + len(waiting)))
            yield _handed_over(*waiting.popleft().result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _handed_over(batch: Batch, ready: torch.cuda.Event | None) -> Batch:
    """The batch for the present stream: it waits for the one that made it, nobody else does."""
    if ready is not None:
        current = torch.cuda.current_stream(batch.inputs.device)
        current.wait_event(ready)
        for tensor in batch:
            tensor.record_stream(current)  # its memory is not given away before it was read
    return batch
