import numpy as np

from thalweg.diagnosis.evidence import curve, latest, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import PLATEAU_BEST

RISING = ("acc", "auc", "f1", "iou", "r2", "map", "bleu", "psnr", "recall", "precision", "dice")
FALLING = ("loss", "error", "mse", "mae", "rmse", "perplexity", "nll")


@rule(
    "plateau-metric-reversed",
    stage="wiring",
    needs=(PLATEAU_BEST,),
    explains=(
        "learning-rate-collapsed",
        "learning-rate-too-low",
        "loss-not-falling",
        "stopped-too-early",
        "training-plateau",
        "underfitting",
    ),
)
def plateau_metric_reversed(history: History, *, least: int = 3) -> Finding | None:
    """ReduceLROnPlateau waits for the minimum of a score that should rise, or a loss's maximum.

    Why it matters: its mode is "min" by default. Given an accuracy, it takes every improvement for
    a plateau, and divides the learning rate again and again while the network still learns.

    Evidence: the best value that the scheduler has seen, against the series that were logged.
    Threshold: exact: with mode "min" it is the smallest value of a logged score that should rise
    (accuracy, F1, AUC, IoU, R²) and that did rise; with "max" the largest of a loss that fell.
    False alarms: none known; the value must be the same to six digits, and in no other series.
    Convicted by: the same run with the other mode keeps its learning rate while the score improves.
    Source: PyTorch documentation, "ReduceLROnPlateau" (mode).
    """
    for mode, best in latest(history, PLATEAU_BEST).items():
        words, pick = (RISING, np.min) if mode == "min" else (FALLING, np.max)
        for quantity in history:
            values = curve(history, quantity).values
            name = quantity.name
            if len(values) < least or not any(word in name.lower() for word in words):
                continue
            improved = values[-1] > values[0] if mode == "min" else values[-1] < values[0]
            if improved and np.isclose(float(pick(values)), best, rtol=1e-6, atol=0):
                return _finding(mode, name, best=best)
    return None


def _finding(mode: str, name: str, *, best: float) -> Finding:
    other = "max" if mode == "min" else "min"
    takes = "a score that should rise" if mode == "min" else "a loss that should fall"
    return Finding(
        severity="error",
        summary=f'ReduceLROnPlateau(mode="{mode}") is given {name}, {takes}: it takes its worst '
        f"value, {number(best)}, for the best, and lowers the learning rate while it improves",
        where=name,
        evidence={"best value it has seen": best},
        prescriptions=(
            Prescription(
                change=f'set mode="{other}", or give it '
                + ("the validation loss" if mode == "min" else "a score"),
                expect=f"the learning rate stays as long as {name} improves",
            ),
        ),
    )
