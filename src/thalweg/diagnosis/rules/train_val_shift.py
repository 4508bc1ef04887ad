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
    more (twice that where no val= was passed in, and one batch of validation was seen); or a
    classifier's AUC above 0.75 and six times its noise, with an accuracy 0.15 lower.
    False alarms: training inputs changed beyond their level by augmentation, if accuracy also
    drops; a validation split of another season or place on purpose (then it is true).
    Convicted by: a held-out slice of the training split scores like training.
    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".
    """
    shift = latest(history, SHIFT)
    if not value(history, VAL_SAMPLES) >= 20:
        return None
    drop = value(history, TRAIN_ACCURACY) - value(history, MEASURED_VAL_ACCURACY)
    sure = 1.0 if "auc" in shift else 2.0  # of one validation batch alone
    apart = shift.get("level", 0.0) > sure * level or shift.get("scale", 0.0) > sure * scale
    excess = shift.get("auc", 0.5) - 0.5
    separable = excess > max(auc - 0.5, 6 * shift.get("noise", 1.0)) and drop > 0.15
    if not (apart or separable):
        return None
    return Finding(
        severity="warning",
        summary="validation inputs differ from training inputs: means are "
        f"{number(shift.get('level', 0.0))} std apart, stds {_times(shift)}{_separated(shift)}",
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


def _times(shift: dict[str, float]) -> str:
    ratio = shift.get("ratio", 2 ** min(shift.get("scale", 0.0), 99))
    return (
        f"{number(ratio)} times as large"
        if ratio >= 1
        else f"{number(1 / max(ratio, 1e-9))} times smaller"
    )


def _separated(shift: dict[str, float]) -> str:
    auc = shift.get("auc")
    return "" if auc is None else f"; a linear classifier tells them apart with AUC {auc:.2f}"
