"""Epochs and batch size, from the number of training samples."""

from math import ceil


def batch_size(samples: int, *, largest: int) -> int:
    """The largest power of two, from 16 to `largest`, that makes 24 updates an epoch or more.

    With fewer updates than that, the running averages of batch normalisation (momentum 0.1) lag
    behind the weights, and an epoch's validation measures outdated statistics.
    """
    size = largest
    while size > 16 and samples < 24 * size:
        size //= 2
    return size


def epochs(samples: int, *, batch: int, updates: int, least: int, most: int) -> int:
    """The passes that make about `updates` updates, from `least` to `most`.

    Below `most` passes, the number of updates decides how far a small network gets, not the
    number of passes: Masters, Luschi 2018, arXiv:1804.07612 §2; Li et al. 2020, arXiv:1905.04753.
    """
    return min(max(ceil(updates / max(1, ceil(samples / batch))), least), most)
