import numpy as np

from thalweg.diagnosis.evidence import curve, latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    BACKWARD_PASSES,
    FORWARD_PASSES,
    GRADIENT_SCALE,
    LEARNING_RATE,
    LEFTOVER_GRADIENT,
    LOSS,
    SCALER_SCALE,
    SUMMED_LOSS,
    UPDATES,
)


@rule(
    "undivided-accumulation",
    stage="wiring",
    needs=(BACKWARD_PASSES, FORWARD_PASSES, GRADIENT_SCALE, LOSS),
    explains=(
        "clipping-too-tight",
        "dead-relu",
        "edge-of-stability",
        "exploding-gradients",
        "learning-rate-too-high",
        "loss-not-falling",
        "loss-not-finite",
        "loss-oscillates",
        "saturated-activations",
        "training-plateau",
        "underfitting",
    ),
)
def undivided_accumulation(
    history: History, *, least_passes: int = 4, leap: float = 3.0, least_steps: int = 3
) -> Finding | None:
    """The gradients of several batches are added up for one update, and none is divided.

    Why it matters: `backward` adds. K batches whose mean losses are not divided by K give K times
    the gradient of their mean: K times the learning rate, for an optimizer that follows the
    gradient's size.

    Evidence: passes of the model and backward passes from one update to the next, counted by hooks;
    the gradient at the model's output, against that of the mean loss.
    Threshold: exact counts: four backward passes or more an update, each of its own forward pass,
    whose gradient is that of the whole mean loss to 10 %, from a cleared start. A warning where the
    loss leapt to three times its start, or did not fall by a tenth; else a note.
    False alarms: a learning rate that was tuned with the sum, and optimizers that normalise the
    gradient, have no harm and are noted. Losses other than cross-entropy, logistic loss and mean
    squared error are not checked.
    Convicted by: the same steps with each loss divided by K lower the loss.
    Source: Hugging Face Accelerate documentation, "Performing gradient accumulation".
    """
    updates = curve(history, UPDATES).values
    passes = curve(history, BACKWARD_PASSES).values
    forward_passes = curve(history, FORWARD_PASSES).values
    losses = curve(history, LOSS).values
    if (
        not len(passes)
        or not len(forward_passes)
        or len(losses) < least_steps
        or (len(updates) and updates.min() != 1)
    ):
        return None
    count, forwards = float(np.median(passes)), float(np.median(forward_passes))
    if count < least_passes or forwards < count or value(history, SUMMED_LOSS) == 1:
        return None
    if any(left > 0 for left in latest(history, LEFTOVER_GRADIENT).values()):
        return None  # it is never cleared: another fault
    factor = _factor(history)
    if not abs(factor - 1) <= 0.1:
        return None
    harmed = _is_harmed(history, leap)
    return Finding(
        severity="warning" if harmed else "note",
        summary=f"each update adds up the gradients of {count:.0f} backward passes whose losses "
        f"are not divided by {count:.0f}: its gradient is {count:.0f} times that of their mean",
        evidence={"backward passes an update": count, "scale of each": factor},
        prescriptions=(_prescription(history, count),),
    )


def _factor(history: History) -> float:
    """The scale of one backward pass without that of the loss scaler."""
    scales = curve(history, GRADIENT_SCALE).values
    if not len(scales):
        return float("nan")
    scaled = value(history, SCALER_SCALE) > 1
    median = float(np.median(scales))
    return median / float(np.exp2(np.round(np.log2(median)))) if scaled and median > 2 else median


def _is_harmed(history: History, leap: float) -> bool:
    losses = history.series(LOSS)
    values = np.array([losses[step] for step in sorted(losses)])
    if not np.isfinite(values).all():
        return True
    late = float(np.median(values[-max(1, len(values) // 5) :]))
    return bool(values.max() > leap * values[0]) or late > 0.9 * float(values[0])


def _prescription(history: History, count: float) -> Prescription:
    rate = max(latest(history, LEARNING_RATE).values(), default=float("nan"))
    lower = f", or lower the learning rate to {number(rate / count)}" if rate > 0 else ""
    return Prescription(
        change=f"divide each loss before its backward pass: (loss / {count:.0f}).backward(){lower}",
        expect="the update is that of one large batch, whatever the number of its parts",
    )
