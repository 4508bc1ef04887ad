"""Learning-rate schedules: plain functions from progress in [0, 1] to a factor of the peak.

Every schedule first rises linearly for the share `warmup` of training (0: not at all). Large
early steps of badly scaled gradients are what it avoids: Goyal et al. 2017, arXiv:1706.02677 §2.2.
"""

from collections.abc import Callable
from math import cos, pi

from thalweg.errors import UsageError
from thalweg.registry import Registry

Schedule = Callable[[float], float]


def constant(warmup: float = 0.0) -> Schedule:
    """The peak, to the end."""
    return _after_warmup(warmup, lambda fallen: 1.0)


def warmup_linear(warmup: float = 0.05) -> Schedule:
    """Fall linearly to 0.

    Source: the best of the simple shapes when the budget is fixed, Li, Yumer, Ramanan 2020,
    arXiv:1905.04753; and what the CIFAR-10 speed records use (Jordan 2024, arXiv:2404.00498).
    """
    return _after_warmup(warmup, lambda fallen: 1.0 - fallen)


def cosine(warmup: float = 0.05) -> Schedule:
    """Fall to 0 by half a cosine. Source: Loshchilov, Hutter 2017, arXiv:1608.03983."""
    return _after_warmup(warmup, lambda fallen: (1 + cos(pi * fallen)) / 2)


def step(warmup: float = 0.0) -> Schedule:
    """Ten times lower at one half, and again at three quarters.

    Source: the CIFAR-10 schedule of He et al. 2016, arXiv:1512.03385 §4.2.
    """
    return _after_warmup(warmup, lambda _: 1.0, by=_staircase)


SCHEDULES = Registry("schedule", (constant, warmup_linear, cosine, step))


def _staircase(progress: float) -> float:
    if progress < 0.5:
        return 1.0
    return 0.1 if progress < 0.75 else 0.01


def _after_warmup(
    warmup: float, shape: Schedule, *, by: Schedule = lambda progress: 1.0
) -> Schedule:
    """`shape` sees the share of what follows the warm-up; `by` sees the share of all."""
    if not 0 <= warmup < 1:
        raise UsageError(
            "warmup is a share of the training",
            seen=f"warmup={warmup}",
            fix="a number from 0 up to, but not including, 1",
        )

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return shape((progress - warmup) / (1 - warmup)) * by(progress)

    return factor
