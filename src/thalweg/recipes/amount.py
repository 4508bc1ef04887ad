"""How long to train, and in batches of what size, from the number of training samples."""

from math import ceil


def batch_size(samples: int, *, largest: int) -> int:
    """A power of two that leaves at least 24 updates an epoch where that needs no less than 16.

    With fewer updates than that, the running averages of batch normalisation (momentum 0.1) lag
    behind the weights, and an epoch's validation judges statistics that are out of date.
    """
    size = largest
    while size > 16 and samples < 24 * size:
        size //= 2
    return size


def epochs(samples: int, *, batch: int, updates: int, least: int, most: int) -> int:
    """As many passes as make about `updates` updates, within `least` and `most`.

    Below `most` passes the number of updates is what decides how far a small network gets, not the
    number of passes: Masters, Luschi 2018, arXiv:1804.07612 §2; Li et al. 2020, arXiv:1905.04753.
    """
    return min(max(ceil(updates / max(1, ceil(samples / batch))), least), most)
