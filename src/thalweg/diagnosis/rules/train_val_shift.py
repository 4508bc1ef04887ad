from thalweg.diagnosis.evidence import latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import MEASURED_VAL_ACCURACY, SHIFT, TRAIN_ACCURACY, VAL_SAMPLES


@rule(
    "train-val-shift",
    stage="data",
    needs=(SHIFT, VAL_SAMPLES),
    explains=("overfitting", "metric-disagrees-with-loss", "label-encoding-differs"),
)
def train_val_shift(
    history: History, *, level: float = 0.5, scale: float = 0.7, auc: float = 0.75
) -> Finding | None:
    """Validation inputs come from another distribution than training inputs.

    Why it matters: what looks like overfitting is then mismatch, and regularising does not help.
    Most often the preprocessing differs: one split is normalised, the other not.

    Evidence: the level and the scale of all input numbers, validation against training; the AUC of
    a linear classifier that tells the splits apart on held-out samples; the drop in accuracy.
    Threshold: means half a standard deviation apart, or stds 1.6-fold (2^0.7), with 20 samples or
    more; or a classifier's AUC above 0.75 and six times its noise, with an accuracy 0.15 lower.
    False alarms: training inputs changed beyond their level by augmentation, if accuracy also
    drops; a validation split of another season or place on purpose (then it is true).
    Convicted by: a held-out slice of the training split scores like training.
    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".
    """
    shift = latest(history, SHIFT)
    if not value(history, VAL_SAMPLES) >= 20:
        return None
    drop = value(history, TRAIN_ACCURACY) - value(history, MEASURED_VAL_ACCURACY)
    apart = shift.get("level", 0.0) > level or shift.get("scale", 0.0) > scale
    excess = shift.get("auc", 0.5) - 0.5
    separable = excess > max(auc - 0.5, 6 * shift.get("noise", 1.0)) and drop > 0.15
    if not (apart or separable):
        return None
    return Finding(
        severity="warning",
        summary="validation inputs differ from training inputs: means are "
        f"{number(shift.get('level', 0.0))} std apart, stds "
        f"{number(2 ** min(shift.get('scale', 0.0), 99))}-fold; a linear classifier tells them "
        f"apart with AUC {shift.get('auc', 0.5):.2f}",
        evidence={
            "level": shift.get("level", 0.0),
            "scale": shift.get("scale", 0.0),
            "AUC": shift.get("auc", 0.5),
        },
        prescriptions=(
            Prescription(
                change="send both splits through the same preprocessing, with the training split's "
                "statistics",
                expect="AUC near 0.5, and a validation score near the training score",
            ),
        ),
    )
