from collections.abc import Collection, Sequence
from math import inf, isfinite, nan

import numpy as np

from thalweg.diagnosis.evidence import Curve, curve, finite_values, number
from thalweg.diagnosis.finite_part import finite_part, first_lasting_nan
from thalweg.diagnosis.rule import Finding, Prescription, Severity, rule
from thalweg.record import History
from thalweg.record.quantities import (
    CHANCE_LOSS,
    DEAD_UNITS,
    GRADIENT_NORM,
    IDENTICAL_ROWS,
    LEARNING_RATE,
    LOSS,
    UPDATE_RATIO,
)

HEALTHY_UPDATE = 1e-3  # ‖Δw‖/‖w‖ that a good learning rate gives; CS231n notes
VIOLENT = 0.5  # a share of its norm that no sound update moves a matrix by
REPLACED = 1.0  # a share of its norm: a matrix that moves so far keeps nothing of its start
LEAP = 1.5  # times the first loss, after updates that replaced most matrices
EXTREME = 50.0  # times the first loss: no sound training leaps so far
LASTING = 1 / 3  # of the first loss: below it, an early leap did no lasting harm
VARIES = 3.0  # ratio of the chance levels of several readings, from which on tasks differ
MOST_DEAD = 0.3  # share of dead units that sound training leaves
MOST_DECADES = 4  # that a learning rate is to be lowered by
STUCK = 0.97  # of the loss of chance
FIRST = 6  # steps: later ones may already be those of a model that has collapsed
FEWEST_MATRICES = 3
USUAL_LR = 1e-3  # which trains most networks, with Adam at least
EARLY = 100  # steps in which too high a learning rate shows itself


@rule(
    "learning-rate-too-high",
    stage="optimisation",
    needs=(LOSS, LEARNING_RATE),
    explains=(
        "loss-not-finite",
        "loss-not-falling",
        "dead-relu",
        "output-ignores-inputs",
        "saturated-activations",
        "exploding-gradients",
        "vanishing-gradients",
        "loss-oscillates",
        "training-plateau",
        "underfitting",
        "optimisation-failure",
        "overfitting",
        "stopped-too-early",
        "metric-disagrees-with-loss",
        "unstable-log",
        "over-regularised",
    ),
    after_nan=True,
)
def learning_rate_too_high(
    history: History, *, jump: float = 2.0, stuck: float = 0.9, update: float = 0.1
) -> Finding | None:
    """The updates are so large that they throw the model further from a solution than it began.

    Why it matters: beyond 2/λ, λ the sharpest curvature of the loss, each step of gradient
    descent lands higher up the other wall of the valley than it left. The loss leaps, then either
    overflows or settles where the outputs no longer depend on the inputs (dead or saturated
    units), at chance or above. Training longer does not mend that.

    Evidence: the loss's peak after the first update against its start; where it settled; the size
    of the updates relative to the weights (1e-3 is usual).
    Threshold: the loss leapt to twice its start or more (or overflowed after growing) and ended at
    no less than 0.9 of its start, or of chance; where updates were measured, they moved some weight
    matrix by more than a tenth of its norm in one step. Or: five times the start, and a matrix
    moved by half of its norm, unless the loss then fell to a third of its start: after a leap of
    fifty times the start even then. Or, without a leap: the median matrix moved by a tenth in one
    of the first updates, and a hundred steps later the loss is still that of chance. Or: the
    median matrix moved by half of its norm in one of the first updates, and within as many steps
    the run overflowed for good, from finite gradients. Or, as a warning: the median matrix moved by
    all of its norm in one of the first updates, and the loss leapt to 1.5 times its start, however
    it ended: networks whose norms undo the scale of their weights learn even then, but less well.
    Matrices that began at zero do not count.
    False alarms: a sound learning rate on inputs or targets that are not scaled has the same
    effect; then the data finding, which comes first, is the cause.
    Convicted by: a tenth of the learning rate on a copy, for 50 steps, falls further.
    Source: LeCun, Bottou, Orr and Müller 1998, "Efficient BackProp", §4.6 (divergence beyond
    2/λ_max); Stanford CS231n notes, "Ratio of weights:updates".
    """
    overflow = first_lasting_nan(history)
    if overflow is not None:
        history = finite_part(history, overflow)
    losses = curve(history, LOSS)
    if not len(losses) or losses.steps[0] != min(history.series(LOSS)):
        return None
    if overflow is not None and (at_once := _overflow_at_once(history, losses, overflow)):
        return at_once
    if len(losses) < 2:
        return None
    start, peak, end = _start(losses), float(losses.values[1:].max()), _end(history, losses)
    reference = max(start, 0.0) or nan
    moved, place = _largest_update(history)
    leapt = peak > jump * reference
    failed = not isfinite(end) or end > stuck * min(reference, _chance(history))
    lasts = not isfinite(end) or end > reference * LASTING or _units_died(history)
    harmed = lasts or peak > EXTREME * reference
    violent = isfinite(moved) and moved > VIOLENT and peak > 5 * reference and harmed
    lr = _learning_rate(history)
    outcome = f"the loss leapt from {number(start)} to {number(peak)} and {_ending(end)}"
    severity: Severity = "error"
    if not (leapt and failed and moved >= update) and not violent:
        is_zero = _began_at_zero(history)
        typical, place = _typical_first_update(history), ""
        replaced = _typical_first_update(history, leave_out=is_zero)
        first = "the first updates moved most weight matrices by"
        if typical >= update and _never_fell(history, losses):
            moved = typical
            outcome = f"{first} {moved:.0%}, and the loss never fell below {number(start)}"
        elif replaced >= REPLACED and peak > LEAP * reference:
            moved, severity = replaced, "warning"
            outcome = f"{first} {moved:.0%} of their norm, and {outcome}"
        else:
            return None
    return Finding(
        severity=severity,
        summary=f"with learning rate {number(lr)} {outcome}",
        where=place,
        evidence=finite_values(
            {
                "learning rate": lr,
                "first loss": start,
                "highest loss": peak,
                "late loss": end,
                "largest update, share of the weight": moved,
            }
        ),
        prescriptions=_prescriptions(lr, moved, start),
    )


def _overflow_at_once(history: History, losses: Curve, overflow: int) -> Finding | None:
    """The finding where the first updates wiped out the weights and the run then overflowed."""
    is_zero = _began_at_zero(history)
    moved = _median_update(_first_updates(history, leave_out=is_zero))
    if overflow - losses.steps[0] > FIRST or not moved >= VIOLENT or _gradient_overflowed(history):
        return None
    lr, start = _learning_rate(history), _start(losses)
    size = f"{moved:,.0%} of their norm" if moved < 100 else f"{number(moved)} times their norm"
    if not isfinite(moved):
        size = "more than can be measured"
    return Finding(
        severity="error",
        summary=f"with learning rate {number(lr)} the first updates moved the weight matrices by "
        f"{size}, and from step {overflow} on nothing is finite",
        evidence=finite_values(
            {
                "learning rate": lr,
                "first loss": start,
                "typical first update, share of the weight": moved,
            }
        ),
        prescriptions=_prescriptions(
            lr,
            # The very first update alone has not grown with the loss, so it shows the rate.
            _median_update(_first_updates(history, leave_out=is_zero, within=0)),
            start,
            most_decades=inf,
        ),
    )


def _gradient_overflowed(history: History) -> bool:
    series = history.by_place(GRADIENT_NORM).values()
    return not all(isfinite(norm) for one in series for norm in one.values())


def _learning_rate(history: History) -> float:
    return max(max(series.values()) for series in history.by_place(LEARNING_RATE).values())


def _start(losses: Curve) -> float:
    return float(losses.values[0])


def _end(history: History, losses: Curve) -> float:
    """The typical late loss; NaN if the run ended in losses that are not finite."""
    series = history.series(LOSS)
    if not isfinite(series[max(series)]):
        return nan
    return float(np.median(losses.tail(0.2, 5)))


def _chance(history: History) -> float:
    """The loss of chance; infinite where it is not known, or differs from task to task."""
    levels = [level for level in history.series(CHANCE_LOSS).values() if level > 0]
    if not levels or max(levels) > VARIES * min(levels):
        return float("inf")
    return levels[-1]


def _units_died(history: History) -> bool:
    series = history.by_place(DEAD_UNITS).values()
    return any(max(one.values(), default=0.0) > MOST_DEAD for one in series)


def _largest_update(history: History) -> tuple[float, str]:
    """The largest early update ratio and its weight; infinite where none was measured."""
    early = [
        (ratio, place)
        for place, series in history.by_place(UPDATE_RATIO).items()
        for step, ratio in series.items()
        if step - min(series) <= EARLY and isfinite(ratio)
    ]
    return max(early, default=(float("inf"), ""))


def _typical_first_update(history: History, leave_out: Collection[str] = ()) -> float:
    """The largest early update of the median weight matrix; 0 where fewer than three are known."""
    largest = _first_updates(history, leave_out=leave_out)
    return _median_update(largest) if len(largest) >= FEWEST_MATRICES else 0.0


def _began_at_zero(history: History) -> set[str]:
    flags = history.by_place(IDENTICAL_ROWS)
    return {name for name, series in flags.items() if any(series.values())}


def _median_update(ratios: Sequence[float]) -> float:
    return float(np.median(ratios)) if ratios else 0.0


def _first_updates(
    history: History, *, leave_out: Collection[str] = (), within: int = FIRST
) -> list[float]:
    """The largest update of each weight matrix in its first steps; infinite where it overflowed."""
    return [
        max(ratio for step, ratio in series.items() if step - min(series) <= within)
        for place, series in history.by_place(UPDATE_RATIO).items()
        if place not in leave_out
    ]


def _never_fell(history: History, losses: Curve) -> bool:
    """True if the loss stayed at that of chance, which is known, from the start to the end."""
    chance, end = _chance(history), _end(history, losses)
    return isfinite(chance) and len(losses) >= EARLY and end > STUCK * chance


def _ending(end: float) -> str:
    return f"settled at {number(end)}" if isfinite(end) else "then overflowed"


def _prescriptions(
    lr: float, moved: float, start: float, *, most_decades: float = MOST_DECADES
) -> tuple[Prescription, ...]:
    """A lower rate: by as many decades as the updates show, by one where none was measured.

    By four at most where updates had grown with the loss: they show no rate.
    """
    decades = np.log10(max(moved / HEALTHY_UPDATE, 10.0)) if isfinite(moved) else 1
    lower = float(f"{lr / 10.0 ** min(round(decades), most_decades):.1g}")
    if most_decades == inf and not isfinite(moved):  # measured, and beyond any number
        lower = USUAL_LR
    return (
        Prescription(
            change=f"lower the learning rate from {number(lr)} to about {number(lower)}",
            expect=f"the loss never exceeds {number(start)} for long and falls within 50 steps",
            edit={"optimizer.lr": lower},
        ),
        Prescription(
            change="clip the gradient norm to 1 and warm up over the first 5 % of the steps",
            expect="no leap in the first steps",
            edit={"optimizer.max_grad_norm": 1.0, "schedule.warmup": 0.05},
        ),
    )
