"""When to measure: often at first, then ever more rarely, so that the cost per step vanishes."""

DENSE_UNTIL = 4  # readings at the first interval; then as many in each doubling of the steps


def next_reading(step: int, every: int) -> int:
    """The step of the reading that follows the one at `step`, for a first interval of `every`.

    The first readings come at 0, 2, 6, 14 and `every`, since some runs have few steps. Over n
    steps there are about 4·(2 + log2(n / (4·every))) readings.

    >>> next_reading(0, 20), next_reading(160, 20), next_reading(400, 20)
    (2, 200, 480)
    """
    if step < every:
        return min(2 * step + 2, every)
    doublings = max(0, (step // (DENSE_UNTIL * every)).bit_length() - 1)
    return step + every * 2**doublings


def first_reading(start: int, every: int) -> int:
    """The first reading at `start` or later: a resumed run is read where a whole one is.

    >>> first_reading(0, 20), first_reading(130, 20), first_reading(161, 20)
    (0, 140, 200)
    """
    step = 0
    while step < start:
        step = next_reading(step, every)
    return step
