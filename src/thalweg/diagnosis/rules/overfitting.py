import numpy as np

from thalweg.diagnosis.evidence import Curve, curve, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import CHANCE_LOSS, LOSS, VAL_ACCURACY, VAL_LOSS


@rule("overfitting", stage="generalisation", needs=(LOSS, VAL_LOSS))
def overfitting(
    history: History, *, least: int = 5, rise: float = 0.25, absolute: float = 0.1
) -> Finding | None:
    """The validation loss has turned and rises while the training loss goes on falling.

    Why it matters: from the turn on, the model learns what is peculiar to the training samples.
    The checkpoint of the turn is better than the last one, and the gap is the room that more data,
    augmentation or regularisation could win.

    Evidence: the lowest validation loss (mean of its neighbourhood), the last three, the standard
    error of a single validation about its own trend, and the training loss at both times.
    Threshold: the rise exceeds two standard errors, a quarter of the minimum and a tenth of chance,
    with five validations or more, and the training loss fell further. If validation accuracy is
    logged and has not come down from its best by two standard errors, it is a note (the model has
    become overconfident, not worse) as long as the loss stays below chance.
    False alarms: heavy augmentation, which makes the training loss harder than the validation's.
    Convicted by: a stronger regulariser on a copy from the turn on ends at a lower validation loss.
    Source: Prechelt 1998, "Early Stopping – But When?" (generalisation loss over a noisy curve).
    """
    val, train = curve(history, VAL_LOSS), curve(history, LOSS)
    if len(val) < least or len(train) < least:
        return None
    turn = int(np.argmin(val.values))
    low = float(np.mean(val.values[max(0, turn - 1) : turn + 2]))
    late, error = float(np.mean(val.values[-3:])), _noise(val.values)
    scale = value(history, CHANCE_LOSS)
    scale = scale if scale > 0 else float(val.values[0])
    rose = late - low > max(2 * error, rise * abs(low), absolute * abs(scale))
    gap = _train_near(train, val, -1) < 0.95 * _train_near(train, val, turn)
    if not (rose and gap and turn < len(val) - 3):
        return None
    worse, fell = late / low - 1 if low > 0 else float("inf"), _accuracy_fell(history)
    fell = fell or (None if fell is None else low < value(history, CHANCE_LOSS) < late)
    at = int(val.steps[turn])
    return Finding(
        severity="warning" if fell or (fell is None and worse > 2 * rise) else "note",
        summary=f"validation loss {number(low)} at step {at}, {number(late)} at the end, "
        "while the training loss went on falling",
        where=f"step {at}",
        evidence={
            "lowest validation loss": low,
            "late validation loss": late,
            "standard error": error,
            "train loss at the turn": _train_near(train, val, turn),
            "late train loss": _train_near(train, val, -1),
        },
        prescriptions=(
            Prescription(
                change=f"keep the weights of step {at}, or stop there",
                expect=f"validation loss near {number(low)}",
            ),
            Prescription(
                change="augment the training samples, or gather more of them",
                expect="the validation loss turns later and lower",
                edit={"augment.crop_padding": 4, "augment.cutout": 0.25},
            ),
            Prescription(
                change="raise the weight decay to 0.1, or add dropout",
                expect="a smaller gap between training and validation loss",
                edit={"optimizer.weight_decay": 0.1},
            ),
        ),
    )


def _noise(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Standard error of one value about a smooth trend, from second differences (robust)."""
    bend = np.abs(np.diff(values, 2))
    return float(np.median(bend)) / 0.6745 / 6**0.5 if len(bend) else float("inf")


def _train_near(train: Curve, val: Curve, index: int) -> float:
    """Mean training loss over the steps that led to one validation."""
    end = val.steps[index]
    width = (val.steps[-1] - val.steps[0]) / max(1, len(val) - 1)
    near = train.between(end - width, end).values
    return float(np.mean(near)) if len(near) else float(train.values[-1])


def _accuracy_fell(history: History) -> bool | None:
    """Return whether validation accuracy fell for good; None where it was not logged."""
    accuracy = curve(history, VAL_ACCURACY).values
    if len(accuracy) < 5:
        return None
    best = float(np.sort(accuracy)[-3:].mean())
    return best - float(accuracy[-3:].mean()) > max(2 * _noise(accuracy), 0.01)
