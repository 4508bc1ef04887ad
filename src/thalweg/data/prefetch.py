"""Prefetch batches in background threads while training uses the present one."""

import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import count

import torch

from thalweg.data.batch import Batch, tensors_of


def threads_to_spare(device: torch.device) -> int:
    """Number of prefetch threads that take no core from the training steps: 0, 1 or 2.

    On a CPU whose cores all compute the step, prefetching only slows it down.
    """
    if device.type != "cpu":
        return 2
    return max(0, min(2, len(os.sched_getaffinity(0)) - torch.get_num_threads()))


def prefetch_batches(
    make: Callable[[int], Batch], start: int, *, threads: int, device: torch.device
) -> Generator[Batch]:
    """Yield make(start), make(start + 1), … without end, computed in threads ahead of their use.

    An error of `make` is raised when its batch is asked for. Closing or deleting the iterator ends
    the threads.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream(device))  # for the data of the batches

    def make_on_stream(number: int) -> tuple[Batch, torch.cuda.Event | None]:
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            batch = make(number)
            return batch, None if stream is None else stream.record_event()

    pool = ThreadPoolExecutor(threads, "batches", initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[tuple[Batch, torch.cuda.Event | None]]] = deque()
    try:
        for number in count(start):
            while len(pending) <= threads:
                pending.append(pool.submit(make_on_stream, number + len(pending)))
            yield _synchronised(*pending.popleft().result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _synchronised(batch: Batch, ready: torch.cuda.Event | None) -> Batch:
    """The batch, ready on the current stream, which alone waits for the prefetch stream."""
    if ready is not None:
        current = torch.cuda.current_stream(batch.targets.device)
        current.wait_event(ready)
        for tensor in (*tensors_of(batch.inputs), batch.targets):
            tensor.record_stream(current)  # its memory is not reused before it was read
    return batch
