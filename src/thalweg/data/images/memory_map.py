"""Pixels of a cache entry as an array that is read from the disk on demand."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np


def memory_map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Map a file copy-on-write as uint8: torch needs writable memory, the disk must not change.

    Raises OSError or ValueError where the file is absent, or shorter than the shape.
    """
    return np.memmap(path, dtype=np.uint8, mode="c", shape=shape)


def release(array: np.ndarray) -> None:
    """Release the resident pages of a memory-mapped array; they are read again on demand.

    Without it every page of the data counts as memory of this process after a pass over them.
    """
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None) if not isinstance(base, memoryview) else base.obj
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
