from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    MEASURED_VAL_ACCURACY,
    RELABELLED_VAL_ACCURACY,
    RENAMING_CHANCE,
)


@rule(
    "label-encoding-differs",
    stage="data",
    needs=(RELABELLED_VAL_ACCURACY, MEASURED_VAL_ACCURACY, RENAMING_CHANCE),
    explains=("overfitting", "metric-disagrees-with-loss"),
)
def label_encoding_differs(
    history: History, *, gain: float = 0.3, chance: float = 1e-4
) -> Finding | None:
    """Training and validation number their classes differently.

    Why it matters: class lists built from each split's own folders, a shift by one, or another
    sort order: the model is right and is counted wrong.

    Evidence: validation accuracy as it stands, and after the one-to-one renaming of classes under
    which most predictions agree; the number of renamings times the binomial probability that
    predictions which know nothing of the classes agree so well.
    Threshold: a renaming gains 30 points and ends above 60 %, by chance in less than 1 of 10,000
    runs. Not checked on so few samples that even a perfect renaming may be chance.
    False alarms: two classes truly confused with each other, in a task of few classes.
    Convicted by: that renaming, found on half of the validation samples, holds on the other half.
    Source: arithmetic of the confusion matrix.
    """
    plain, renamed = (
        value(history, MEASURED_VAL_ACCURACY),
        value(history, RELABELLED_VAL_ACCURACY),
    )
    if not value(history, RENAMING_CHANCE) < chance:
        return None
    if not (renamed - plain > gain and renamed > 0.6):
        return None
    return Finding(
        severity="error",
        summary=f"validation accuracy is {plain:.0%}, but {renamed:.0%} if classes are renamed: "
        "the splits number their classes differently",
        evidence={"accuracy": plain, "accuracy after renaming": renamed},
        prescriptions=(
            Prescription(
                change="number the classes once, from the training split, and use it everywhere",
                expect=f"validation accuracy near {renamed:.0%}",
            ),
        ),
    )
