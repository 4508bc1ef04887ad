"""Statistics that need no library: confidence intervals, exact probabilities of counts."""

from math import exp, inf, lgamma, log, log1p, sqrt

NORMAL_95 = 1.96  # standard errors on each side of a mean


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): honest near 0 and 1, and for few samples."""
    if not total:
        return 0.0, 1.0
    z, share = NORMAL_95, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def log_binomial_tail(least: int, total: int, share: float) -> float:
    """Natural logarithm of the probability of `least` successes or more in `total` trials."""
    if least <= 0 or share >= 1:
        return 0.0
    if share <= 0 or least > total:
        return -inf
    terms = [
        _log_choose(total, count) + count * log(share) + (total - count) * log1p(-share)
        for count in range(least, total + 1)
    ]
    largest = max(terms)
    return min(0.0, largest + log(sum(exp(term - largest) for term in terms)))


def _log_choose(total: int, count: int) -> float:
    return lgamma(total + 1) - lgamma(count + 1) - lgamma(total - count + 1)
