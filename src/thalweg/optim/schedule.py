"""Learning-rate schedules: plain functions from progress in [0, 1] to a factor of the peak.

Every schedule first rises linearly for the share `warmup` of training (0: not at all). Warm-up
avoids large early steps along badly scaled gradients: Goyal et al. 2017, arXiv:1706.02677 §2.2.
"""

from collections.abc import Callable
from math import ceil, cos, pi, sqrt

from thalweg.errors import UsageError
from thalweg.registry import Registry

Schedule = Callable[[float], float]


def constant(warmup: float = 0.0) -> Schedule:
    """Stay at the peak to the end."""
    return _after_warmup(warmup, lambda share: 1.0)


def warmup_linear(warmup: float = 0.05, *, floor: float = 0.0) -> Schedule:
    """Fall linearly to `floor`, a share of the peak.

    It is the best of the simple shapes when the budget is fixed (Li, Yumer, Ramanan 2020,
    arXiv:1905.04753), and the CIFAR-10 speed records use it (Jordan 2024, arXiv:2404.00498).
    """
    return _after_warmup(warmup, lambda share: 1.0 - (1.0 - floor) * share)


def cosine(warmup: float = 0.05, *, floor: float = 0.0) -> Schedule:
    """Fall to `floor` by half a cosine. Source: Loshchilov, Hutter 2017, arXiv:1608.03983."""
    return _after_warmup(warmup, lambda share: _half_cosine(1.0, floor, share=share))


def step(
    warmup: float = 0.0, *, factor: float = 0.1, first: float = 0.5, every: float = 0.25
) -> Schedule:
    """Multiply by `factor` at `first` and after each further `every`, both shares of the training.

    By default the learning rate falls tenfold at one half and at three quarters.

    Source: the CIFAR-10 schedule of He et al. 2016, arXiv:1512.03385 §4.2.
    """
    _check_stairs(factor, first, every)
    num_drops = ceil((1 - first) / every)

    def staircase(progress: float) -> float:
        if progress < first:
            return 1.0
        return factor ** min(1 + int((progress - first) / every), num_drops)

    return _after_warmup(warmup, lambda _: 1.0, times=staircase)


def quarter_cosine(warmup: float = 0.0) -> Schedule:
    """Fall to 0 by a quarter of a cosine, cos(π/2 · t): high for long, and steepest at the end.

    The literature's cosine annealing is `cosine` instead: half a period, flat at both ends.
    """
    return _after_warmup(warmup, lambda share: cos(pi / 2 * share))


def one_cycle(warmup: float = 0.3, *, start: float = 1 / 25, end: float = 1 / 25 / 1e4) -> Schedule:
    """Rise by half a cosine from `start` of the peak, fall by half a cosine to `end` of it.

    Source: Smith & Topin 2018, https://arxiv.org/abs/1708.07120, in fastai's and PyTorch's shape.
    """

    def factor(progress: float) -> float:
        if progress < warmup:
            return _half_cosine(start, 1.0, share=progress / warmup)
        return _half_cosine(1.0, end, share=(progress - warmup) / (1 - warmup))

    _check_warmup(warmup)
    return factor


def warmup_stable_decay(warmup: float = 0.05, *, decay: float = 0.2) -> Schedule:
    """Stay at the peak, then fall to 0 as 1 − √share within the last `decay` of the training.

    A run can be extended from its stable part. Source: Hägele et al. 2024,
    https://arxiv.org/abs/2405.18392, §3.
    """
    if not 0 < decay <= 1:
        raise UsageError(
            "decay is a share of the training", seen=f"decay={decay}", fix="such as decay=0.2"
        )
    return _after_warmup(
        warmup,
        lambda _: 1.0,
        times=lambda progress: 1.0 - sqrt(max(0.0, (progress - (1 - decay)) / decay)),
    )


SCHEDULES = Registry(
    "schedule",
    (constant, warmup_linear, cosine, step, quarter_cosine, one_cycle, warmup_stable_decay),
)


def _half_cosine(start: float, end: float, *, share: float) -> float:
    return end + (start - end) * (1 + cos(pi * share)) / 2


def _check_stairs(factor: float, first: float, every: float) -> None:
    if not (0 < factor <= 1 and 0 <= first <= 1 and every > 0):
        raise UsageError(
            "step lowers the learning rate, at shares of the training",
            seen=f"factor={factor}, first={first}, every={every}",
            fix="such as factor=0.1, first=0.5, every=0.25",
        )


def _after_warmup(
    warmup: float, shape: Schedule, *, times: Schedule = lambda progress: 1.0
) -> Schedule:
    """`shape` takes progress since the warm-up; `times` takes progress of the whole training."""
    _check_warmup(warmup)

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return shape((progress - warmup) / (1 - warmup)) * times(progress)

    return factor


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise UsageError(
            "warmup is a share of the training",
            seen=f"warmup={warmup}",
            fix="a number from 0 up to, but not including, 1",
        )
