import numpy as np

from thalweg.diagnosis.evidence import curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LEARNING_RATE, LOSS


@rule(
    "learning-rate-restarted",
    stage="optimisation",
    needs=(LEARNING_RATE, LOSS),
    explains=(
        "dead-relu",
        "loss-oscillates",
        "underfitting",
        "exploding-gradients",
        "saturated-activations",
    ),
)
def learning_rate_restarted(
    history: History, *, factor: float = 10.0, harm: float = 1.5, least: int = 40
) -> Finding | None:
    """The learning rate went down and up again, and the run ended before the loss was back.

    Why it matters: a cosine whose horizon is shorter than the training rises again after it; a
    new scheduler after resuming starts at its peak. The gain of the decay is lost.

    Evidence: the learning rate, and the loss before the rise and at the end.
    Threshold: a fall and a rise by tenfold or more; a warning if the last losses are 1.5 times
    those before the rise, else a note (warm restarts are a method).
    False alarms: warm restarts stopped in the middle of a cycle.
    Convicted by: the weights from before the rise score better than the last.
    Source: Loshchilov and Hutter 2017, "SGDR" (restarts on purpose end at the low of a cycle).
    """
    losses = curve(history, LOSS)
    for place in history.by_place(LEARNING_RATE):
        rate = curve(history, LEARNING_RATE, place)
        lowest = _low_between(rate.values, factor)
        if lowest is None or len(losses) < least:
            continue
        at = float(rate.steps[lowest])
        before = losses.between(at - 20, at).values
        if not len(before) or float(np.median(before)) <= 0:
            continue
        ratio = float(np.median(losses.tail(0.05, 10)) / np.median(before))
        return Finding(
            severity="warning" if ratio > harm else "note",
            summary=f"the learning rate rose again from {number(float(rate.values[lowest]))} to "
            f"{number(float(rate.values[lowest:].max()))} after step {at:.0f}; the loss ended at "
            f"{number(ratio)} times what it was there",
            where=f"step {at:.0f}",
            evidence={"late loss over loss before": ratio},
            prescriptions=(
                Prescription(
                    change="set the schedule's horizon to the whole training, and save its state "
                    "with checkpoints",
                    expect="a learning rate that only falls after the warm-up",
                ),
            ),
        )
    return None


def _low_between(
    rates: np.ndarray[tuple[int, ...], np.dtype[np.float64]], factor: float
) -> int | None:
    """The index of the deepest low that has rates a factor higher both before and after."""
    if len(rates) < 3 or not (rates >= 0).all():
        return None
    before = np.maximum.accumulate(rates)
    after = np.maximum.accumulate(rates[::-1])[::-1]
    depth = np.minimum(before, after) - factor * rates
    best = int(np.argmax(depth))
    return best if depth[best] > 0 else None
