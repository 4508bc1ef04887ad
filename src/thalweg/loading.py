"""Modules are loaded without the collector of cyclic garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading(*, for_good: bool = False) -> Iterator[None]:
    """For the import of PyTorch; `for_good`: what is there afterwards is never collected either.

    Modules are no garbage, but the collector goes through all of their 290,000 objects time and
    again: three times while they are loaded, 0.4 of 1.7 s (torch 2.13, Zen 4), and then whenever
    the objects of a training have grown by a quarter. For good is for a process of our own.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if for_good:
                gc.freeze()
            gc.enable()
