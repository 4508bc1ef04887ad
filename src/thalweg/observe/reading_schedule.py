"""The steps of the readings: often at first, then ever more rarely: the cost per step vanishes."""

PROBE_FROM = 400  # step of the second probe of a model in which nothing saturates
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
    """The first reading at `start` or later: a resumed run is read at the steps of a whole one.

    >>> first_reading(0, 20), first_reading(130, 20), first_reading(161, 20)
    (0, 140, 200)
    """
    step = 0
    while step < start:
        step = next_reading(step, every)
    return step


def next_probe(step: int, every: int, *, often: bool) -> int:
    """The step from which the next reading probes the model again, after the probe at `step`.

    A probe costs as much as a few steps of a small network: after the one before training there
    are a dozen in a million steps, and at first only where `often` is true.

    >>> next_probe(0, 20, often=True), next_probe(0, 20, often=False)
    (20, 400)
    """
    return 3 * step + every if often else max(3 * step + every, PROBE_FROM)
