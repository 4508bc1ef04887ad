"""Statistics of measured series, for the rules: finite values, levels, slopes, standard errors."""

from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from thalweg.record import History, Quantity
from thalweg.record.history import Series
from thalweg.record.quantities import (
    CHANCE_LOSS,
    COPY_DISCOUNT,
    GRADIENT_NORM,
    LOSS,
    LOSS_KIND,
    OPTIMIZERS,
    UPDATE_RATIO,
)
from thalweg.record.series import CompactSeries

HARDLY_FALLEN = 0.9  # of the first loss
Values = NDArray[np.float64]
ERRORS = {  # losses that training brings down, with zero for a perfect model
    "cross_entropy", "nll", "nll_of_log", "nll_of_probability", "bce", "bce_with_logits",
    "mse", "l1", "smooth_l1", "ctc",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """The finite part of a series, in the order of steps."""

    steps: Values
    values: Values
    stride: int = 1  # updates for each point, in a long run whose series was thinned

    @property
    def num_steps(self) -> int:
        """Updates that the points stand for."""
        return len(self) * self.stride

    def __len__(self) -> int:
        return len(self.values)

    def between(self, start: float, end: float) -> "Curve":
        """The part with start ≤ step ≤ end."""
        inside = (self.steps >= start) & (self.steps <= end)
        return Curve(self.steps[inside], self.values[inside], self.stride)

    def head(self, share: float, least: int = 1) -> Values:
        """The first `share` of the values, at least `least` of them."""
        return self.values[: max(least, int(share * len(self)))]

    def tail(self, share: float, least: int = 1) -> Values:
        """The last `share` of the values, at least `least` of them."""
        return self.values[-max(least, int(share * len(self))) :]


def curve(history: History, quantity: Quantity, place: str = "") -> Curve:
    """The finite part of one place's series; empty when it was never measured."""
    return as_curve(history.series(quantity, place))


def as_curve(series: Series) -> Curve:
    if isinstance(series, CompactSeries):
        steps, values = np.array(series.step_array), np.array(series.value_array)
        finite = np.isfinite(values)
        return Curve(steps[finite].astype(np.float64), values[finite], series.stride)
    points = sorted((step, value) for step, value in series.items() if isfinite(value))
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    return Curve(table[:, 0], table[:, 1])


def value(history: History, quantity: Quantity, place: str = "") -> float:
    """The last value of a series; NaN without any."""
    return history.last(quantity, place) if history.series(quantity, place) else float("nan")


def level(values: Values) -> tuple[float, float]:
    """Mean and its standard error; the error of fewer than two values is infinite."""
    if len(values) < 2:
        return (float(values.mean()) if len(values) else float("nan")), float("inf")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.mean()), float(values.std(ddof=1)) / sqrt(len(values))


def fall(early: Values, late: Values) -> tuple[float, float]:
    """The fall of the mean from early to late, and its standard error."""
    (first, first_error), (last, last_error) = level(early), level(late)
    return first - last, float(np.hypot(first_error, last_error))


def slope(points: Curve) -> tuple[float, float]:
    """Least-squares slope per step and its standard error; infinite error under three points."""
    if len(points) < 3 or np.ptp(points.steps) == 0:
        return 0.0, float("inf")
    x = points.steps - points.steps.mean()
    with np.errstate(over="ignore", invalid="ignore"):
        rate = float(x @ points.values / (x @ x))
        residuals = points.values - points.values.mean() - rate * x
        return rate, sqrt(float(residuals @ residuals) / (len(points) - 2) / float(x @ x))


def number(x: float) -> str:
    """A number as people write it: three digits, no exponent where none is needed.

    >>> number(0.012345), number(2513.4), number(1797.0), number(2.5e7)
    ('0.0123', '2,510', '1,797', '2.5e+07')
    """
    if not 1000 <= abs(x) < 1e6:
        return f"{x:.3g}"
    return f"{x:,.0f}" if x == int(x) else f"{float(f'{x:.3g}'):,.0f}"


def latest(history: History, quantity: Quantity) -> dict[str, float]:
    """Each place's last value."""
    return {place: s[max(s)] for place, s in history.by_place(quantity).items() if s}


def kind(history: History, quantity: Quantity) -> str:
    """The place at which a quantity of kinds was recorded last; "" without any."""
    places = {place: max(s) for place, s in history.by_place(quantity).items() if s}
    return max(places, key=lambda place: places[place], default="")


def share_of_chance(history: History) -> float:
    """The late training loss as a share of the chance loss; NaN where either is unknown."""
    chance, losses = value(history, CHANCE_LOSS), curve(history, LOSS)
    if not len(losses) or not chance > 0:
        return float("nan")
    return float(np.median(losses.tail(0.2))) / chance


def loss_is_error(history: History) -> bool:
    """True if the loss is known as an error that training brings down.

    False for two players, whose losses rise by turns, for a loss that is in no table (a reward, a
    bound or a distance may do what it likes in a sound training), and for one that went below zero.
    """
    if value(history, OPTIMIZERS) > 1 or kind(history, LOSS_KIND) not in ERRORS:
        return False
    losses = curve(history, LOSS).values
    return len(losses) == 0 or float(losses.min()) >= 0


def is_bootstrapped(history: History) -> bool:
    """True if the targets are computed from a copy's outputs: the size of the loss tells little."""
    return any(factor > 0 for factor in latest(history, COPY_DISCOUNT).values())


def remaining_loss(history: History) -> float:
    """The late loss as a share of chance; 1 where chance is unknown and the loss has hardly fallen.

    NaN where neither shows harm: the loss is not known as an error, or it fell, and nobody knows
    how far it can.
    """
    share = share_of_chance(history)
    losses = curve(history, LOSS)
    if share == share or not loss_is_error(history) or len(losses) < 10:
        return share
    start, late = float(np.median(losses.head(0.05, 5))), float(np.median(losses.tail(0.2)))
    return 1.0 if late > HARDLY_FALLEN * start > 0 else float("nan")


def gradient_norms(history: History) -> Values:
    """L2 norm of the whole gradient at each reading, where finite and not zero."""
    sums: dict[int, float] = {}
    for series in history.by_place(GRADIENT_NORM).values():
        for step, norm in series.items():
            sums[step] = min(sums.get(step, 0.0) + min(abs(norm), 1e150) ** 2, 1e300)
    total = np.sqrt(np.array([sums[step] for step in sorted(sums)]))
    norms: Values = total[np.isfinite(total) & (total > 0)]
    return norms


def largest_movement(history: History) -> float:
    """The farthest that any matrix can have moved in this run, in units of its norm."""
    means = [
        float(values.mean())
        for series in history.by_place(UPDATE_RATIO).values()
        if len(values := as_curve(series).values)
    ]
    return max(means, default=0.0) * curve(history, LOSS).num_steps


def expected_gain(history: History, *, least: int = 30) -> tuple[float, float]:
    """The late training loss, and its fall over a fifth more steps at its late rate.

    The rate is that of an exponential decay, so the promise is less than the loss that is left. It
    is zero where the slope is within three standard errors of zero, the loss is below zero, or
    there are fewer losses than `least`.
    """
    losses = curve(history, LOSS)
    if len(losses) < max(least, 9):
        return float("nan"), 0.0
    third = len(losses) // 3
    rate, error = slope(Curve(losses.steps[-third:], losses.values[-third:]))
    end = float(np.mean(losses.tail(0.1, 3)))
    if not (rate < -3 * error and end > 0):
        return end, 0.0
    return end, -end * float(np.expm1(rate * len(losses) / 5 / end))


def descent_goes_on(history: History, *, share: float = 0.25, least: int = 30) -> bool:
    """True if much of the loss's fall happened late: the run has not shown how far it can get.

    From the middle third of the losses to the last one it fell by a quarter of the way from the
    first third to the last, and beyond two standard errors. A straight line falls by half of it.
    """
    losses = curve(history, LOSS)
    if len(losses) < least:
        return False
    third = len(losses) // 3
    first, middle, last = (losses.values[i * third : (i + 1) * third] for i in range(3))
    late, error = fall(middle, last)
    return late > max(2 * error, share * fall(first, last)[0])


def finite_values(numbers: dict[str, float]) -> dict[str, float]:
    """The entries whose number is finite; the others could not be computed."""
    return {name: each for name, each in numbers.items() if isfinite(each)}
