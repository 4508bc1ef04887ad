import numpy as np

from thalweg.diagnosis.evidence import (
    Curve,
    curve,
    largest_movement,
    number,
    share_of_chance,
    slope,
    value,
)
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LEARNING_RATE, LOSS, SCALE_INVARIANT, UPDATE_RATIO


@rule(
    "learning-rate-too-low",
    stage="optimisation",
    needs=(LOSS, LEARNING_RATE, UPDATE_RATIO),
    explains=(
        "loss-not-falling",
        "stopped-too-early",
        "underfitting",
        "training-plateau",
        "optimisation-failure",
    ),
)
def learning_rate_too_low(
    history: History, *, reach: float = 0.3, high: float = 0.5, steady: float = 0.5
) -> Finding | None:
    """The updates are so small that the weights cannot move far within the run.

    Why it matters: the run is sound and wasted: the loss falls evenly, and a rate ten times higher
    would get as far in a tenth of the steps.

    Evidence: the update-to-weight ratio times the number of steps, that is how far each matrix
    could have moved had every step pointed the same way; and the course of the loss.
    Threshold: less than 0.3 of their norm for every matrix, while the loss is still above half of
    its start (or of chance) and falls at first no more than twice as fast as at last.
    False alarms: fine-tuning, where little movement is the aim: then the loss starts low.
    Convicted by: ten times the rate on a copy for 50 steps falls further and stays stable.
    Source: Stanford CS231n notes, "Ratio of weights:updates" (1e-3 a step); Smith 2017.
    """
    losses = curve(history, LOSS)
    if len(losses) < 30:
        return None
    moved = largest_movement(history)
    start = float(np.mean(losses.head(0.05, 5)))
    end = float(np.mean(losses.tail(0.1, 5)))
    level = share_of_chance(history)
    done = end < high * start or level < high
    if done or end > 1.03 * start or not 0 < moved < reach or not _steady(losses, steady):
        return None
    lr = max(max(series.values()) for series in history.by_place(LEARNING_RATE).values())
    # In proportion to the rate are the updates of an optimizer that divides by the gradient's size.
    most = 1e7 if value(history, SCALE_INVARIANT) == 1 else 1000
    better = float(f"{lr * min(max(3 / moved, 10), most):.1g}")
    return Finding(
        severity="warning",
        summary=f"at learning rate {number(lr)} no weight matrix can have moved by more than "
        f"{moved:.1%} of its norm in {losses.num_steps} steps; the loss went from "
        f"{number(start)} to {number(end)}",
        evidence={"learning rate": lr, "largest possible movement": moved, "late loss": end},
        prescriptions=(
            Prescription(
                change=f"raise the learning rate to about {number(better)}",
                expect="a loss that falls at once and levels off before the end",
                edit={"optimizer.lr": better},
            ),
        ),
    )


def _steady(losses: Curve, share: float) -> bool:
    """Return whether the loss falls as fast at the end as at first, or does not fall at all."""
    half = len(losses) // 2
    first, first_error = slope(Curve(losses.steps[:half], losses.values[:half]))
    last, _ = slope(Curve(losses.steps[half:], losses.values[half:]))
    return last < share * first or abs(first) < 2 * first_error
