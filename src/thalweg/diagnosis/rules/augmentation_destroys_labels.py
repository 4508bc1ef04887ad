import numpy as np

from thalweg.diagnosis.evidence import curve, latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    ACCURACY,
    BASELINE_ACCURACY,
    CHANCE_LOSS,
    LOSS,
    MEASURED_VAL_ACCURACY,
    TRAIN_MODE_LOSS,
)


@rule(
    "augmentation-destroys-labels",
    stage="data",
    needs=(LOSS, TRAIN_MODE_LOSS, CHANCE_LOSS, BASELINE_ACCURACY, ACCURACY),
    explains=("underfitting", "training-plateau", "over-regularised", "stopped-too-early"),
)
def augmentation_destroys_labels(
    history: History, *, gap: float = 0.3, drop: float = 0.2
) -> Finding | None:
    """The augmentation changes samples so much that they no longer show their class.

    Why it matters: a 6 turned upside down is a 9, and still has the label 6. The augmentation
    then adds label noise, which limits what the model can learn.

    Evidence: the late training loss on augmented batches, against the loss of the same model in
    the same mode on the unchanged samples; the accuracies likewise; and the accuracy of nearest
    neighbours.
    Threshold: a loss higher by 0.3 of chance and an accuracy lower by 20 points; a warning if the
    model on clean samples is also worse than nearest neighbours by 3 points, else a note, since
    strong augmentation is often right.
    False alarms: mixtures of samples (mixup, CutMix) at a length where they still pay.
    Convicted by: the validation score rises without augmentation.
    Source: Cubuk et al. 2020, "RandAugment" (strength must fit model and data); TheDeepChecker.
    """
    chance, losses = value(history, CHANCE_LOSS), curve(history, LOSS)
    if len(losses) < 40 or not chance > 0:
        return None
    harder = float(np.mean(losses.tail(0.15))) - value(history, TRAIN_MODE_LOSS)
    clean = value(history, MEASURED_VAL_ACCURACY)
    batches = curve(history, ACCURACY).tail(0.3, 3)
    lower = clean - float(np.mean(batches)) if len(batches) else 0.0
    if not (harder > gap * chance and lower > drop):
        return None
    neighbours = latest(history, BASELINE_ACCURACY).get("nearest neighbours", 0.0)
    return Finding(
        severity="warning" if clean < neighbours - 0.03 else "note",
        summary=f"augmented batches cost {number(harder)} nat more than the samples as they are, "
        f"and are classified {lower:.0%} worse",
        evidence={"extra loss": harder, "accuracy lost": lower, "clean accuracy": clean},
        prescriptions=(
            Prescription(
                change="weaken the augmentation; leave out what changes the class (flips and turns "
                "of characters)",
                expect="a higher validation accuracy",
                edit={"augment.flip": False, "augment.crop_scale": 1.0},
            ),
        ),
    )
