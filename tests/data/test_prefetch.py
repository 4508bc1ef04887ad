"""Batches made by threads are the same batches, and nothing of the threads is left."""

import threading
from contextlib import closing
from itertools import islice

import pytest
import torch

from thalweg.data import Batch
from thalweg.data.prefetch import prefetch_batches, threads_to_spare

CPU = torch.device("cpu")


def batch(number):
    return Batch(torch.full((2, 3), float(number)), torch.tensor([number, number]))


def making():
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


@pytest.mark.parametrize("threads", [1, 2])
def test_they_come_in_order_from_anywhere(threads):
    with closing(prefetch_batches(batch, 5, threads=threads, device=CPU)) as stream:
        found = list(islice(stream, 40))
    assert [int(one.targets[0]) for one in found] == list(range(5, 45))


def test_an_error_is_raised_where_its_batch_is_asked_for():
    def breaks(number):
        if number == 3:
            raise ValueError("batch 3 is damaged")
        return batch(number)

    stream = prefetch_batches(breaks, 0, threads=2, device=CPU)
    assert [int(next(stream).targets[0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="batch 3"):
        next(stream)
    assert not making()


def test_no_thread_is_left_when_the_loop_is_left():
    stream = prefetch_batches(batch, 0, threads=2, device=CPU)
    next(stream)
    assert making()
    del stream  # as when an exception ends the loop that holds it
    assert not making()


def test_a_batch_is_made_while_the_one_before_is_in_use_and_next_waits_for_it():
    """What the watcher calls the wait for data is the time of `next`, whoever makes the batch."""
    begun, gate = threading.Event(), threading.Event()

    def held_up(number):
        if number == 1:
            begun.set()
            gate.wait(60)
        return batch(number)

    with closing(prefetch_batches(held_up, 0, threads=1, device=CPU)) as stream:
        next(stream)
        assert begun.wait(60)  # nobody asked for it yet
        threading.Timer(0.05, gate.set).start()
        assert int(next(stream).targets[0]) == 1
        assert gate.is_set()


def test_threads_do_not_take_the_cores_of_the_step():
    before = torch.get_num_threads()
    with closing(
        prefetch_batches(
            lambda n: Batch(torch.zeros(1), torch.tensor(torch.get_num_threads())),
            0,
            threads=1,
            device=CPU,
        )
    ) as stream:
        assert int(next(stream).targets) == 1
    assert torch.get_num_threads() == before


def test_where_every_core_computes_there_is_none_to_spare(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert threads_to_spare(CPU) == 0
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert threads_to_spare(CPU) == 1
    assert threads_to_spare(torch.device("cuda")) == 2
