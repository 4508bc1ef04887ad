"""What a command needs is loaded without the collector of cyclic garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """For the import of PyTorch, and for good of what is there afterwards: no collection of it.

    Modules are no garbage, but the collector goes through all of their 290,000 objects time and
    again: three times while they are loaded, 0.4 of 1.7 s (torch 2.13, Zen 4), and then whenever
    the objects of a training have grown by a quarter.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()
