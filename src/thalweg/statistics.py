"""Statistics that need no library: confidence intervals."""

from math import sqrt

NORMAL_95 = 1.96  # standard errors on each side of a mean


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): honest near 0 and 1, and for few samples."""
    if not total:
        return 0.0, 1.0
    z, share = NORMAL_95, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)
