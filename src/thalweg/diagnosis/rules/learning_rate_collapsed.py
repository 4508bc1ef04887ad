import numpy as np

from thalweg.diagnosis.evidence import Curve, curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LEARNING_RATE, LOSS

READ_EVERY = 16  # steps from one reading of the rates to the next
CHECK_FACTOR = Prescription(
    change="print the schedule's factor at some steps: // between whole numbers gives 0 below the "
    "divisor, and a warm-up that begins at 0 and is stepped once an epoch stays there",
    expect="a rate above 0 from the first steps on",
)


@rule(
    "learning-rate-collapsed",
    stage="wiring",
    needs=(LEARNING_RATE, LOSS),
    explains=("learning-rate-too-low", "stopped-too-early", "underfitting", "training-plateau"),
)
def learning_rate_collapsed(
    history: History, *, collapsed: float = 1e-3, share: float = 0.3, least: int = 40
) -> Finding | None:
    """The schedule brings the learning rate to nearly zero long before the end, or keeps it at 0.

    Why it matters: a scheduler stepped once a batch instead of once an epoch, or with too short a
    horizon, ends the training early while the loop goes on: the remaining steps change nothing.

    Evidence: the learning rate over the steps.
    Threshold: below a thousandth of its peak for the last 30 % of the steps or more (a cosine to
    zero spends 2 % there, a linear decay 0.1 %), while the loss is not yet near zero; or exactly 0
    for half of the steps in every group, as after a division of whole numbers.
    False alarms: a tail on purpose, to average weights or to update batch statistics.
    Convicted by: more steps on a copy at the peak learning rate lower the loss.
    Source: PyTorch documentation, "How to adjust learning rate"; Loshchilov and Hutter 2017,
    "SGDR", for the usual horizon.
    """
    losses = curve(history, LOSS)
    rates = [curve(history, LEARNING_RATE, place) for place in history.by_place(LEARNING_RATE)]
    rates = [rate for rate in rates if len(rate)]
    if not rates or len(losses) < least:
        return None
    end = losses.steps[-1] - losses.steps[0] + 1
    idle = min(_share_at_zero(rate, losses.steps[-1] + 1) for rate in rates)
    if idle == 1:
        return _always_zero()
    rates = [rate for rate in rates if rate.values.max() > 0]
    if not rates:
        return None
    # A group may end early on purpose: the one that goes on for longest shows the schedule.
    main = max(rates, key=lambda rate: (_last_high(rate, collapsed), float(rate.values.max())))
    low = main.values < collapsed * main.values.max()
    if not low[-1]:
        return _idle(idle) if idle >= 0.5 else None
    since = main.steps[np.flatnonzero(~low)[-1] + 1]
    dead = float((losses.steps[-1] - since + 1) / end)
    if dead < share or float(np.median(losses.tail(0.2))) < 0.02 * float(losses.values[0]):
        return None
    return Finding(
        severity="warning",
        summary=f"the learning rate fell from {number(float(main.values.max()))} to "
        f"{number(float(main.values[-1]))}; it is below a thousandth of its peak from step "
        f"{since:.0f} on, {dead:.0%} of the run",
        where=f"step {since:.0f}",
        evidence={
            "peak": float(main.values.max()),
            "last": float(main.values[-1]),
            "share of the run": dead,
        },
        prescriptions=(
            Prescription(
                change="step the scheduler as often as its horizon counts (by batch or epoch), "
                "and set that horizon to the whole training",
                expect="the learning rate reaches its end with the last step",
                edit={"schedule.name": "warmup_linear"},
            ),
        ),
    )


def _share_at_zero(rate: Curve, end: float) -> float:
    """The share of the steps at which the rate was exactly 0, at the least."""
    lasting = np.diff(np.append(rate.steps, max(end, rate.steps[-1])))
    zero = rate.values == 0
    unsure = READ_EVERY * int(zero[:-1].sum())  # it rose up to so many steps before that was read
    return float((lasting[zero].sum() - unsure) / max(lasting.sum(), 1))


def _always_zero() -> Finding:
    return Finding(
        severity="error",
        summary="the learning rate is 0 in every step: nothing is trained",
        evidence={"share of the run": 1.0},
        prescriptions=(CHECK_FACTOR,),
    )


def _idle(share: float) -> Finding:
    return Finding(
        severity="warning",
        summary=f"the learning rate is exactly 0 in {share:.0%} of the steps",
        evidence={"share of the run": share},
        prescriptions=(CHECK_FACTOR,),
    )


def _last_high(rate: Curve, collapsed: float) -> float:
    """The last step at which the rate was at least that share of its peak."""
    return float(rate.steps[np.flatnonzero(rate.values >= collapsed * rate.values.max())[-1]])
