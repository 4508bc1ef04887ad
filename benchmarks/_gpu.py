"""What the benchmarks of a GPU share.

BENCHMARK_TINY=1 runs their whole logic on whatever there is, at the size of a toy: to see that they
work. What comes out then is no result, and is not kept.
"""

import os

import torch

from benchmarks._peers import NoPeersError


class NoGpuError(NoPeersError):
    """There is nothing to measure here."""


def is_tiny() -> bool:
    return os.environ.get("BENCHMARK_TINY") == "1"


def device() -> str:
    """The GPU; NoGpuError where there is none, but for a toy run."""
    if torch.cuda.is_available():
        return "cuda"
    if is_tiny():
        return "cpu"
    raise NoGpuError("it needs a CUDA device; BENCHMARK_TINY=1 tries its logic on the CPU")


def about() -> dict[str, object]:
    """The GPU and what drives it, for a result's record."""
    if not torch.cuda.is_available():
        return {"gpu": None}
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"gpu": torch.cuda.get_device_name(), **versions}
