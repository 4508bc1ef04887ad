from thalweg.diagnosis.evidence import number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import MEASURED_VAL_ACCURACY, VAL_CHANGES


@rule(
    "validation-not-repeatable",
    stage="data",
    needs=(VAL_CHANGES,),
    explains=("metric-disagrees-with-loss", "underfitting", "train-val-shift", "overfitting"),
)
def validation_not_repeatable(history: History, *, least: float = 0.1) -> Finding | None:
    """Validation inputs differ each time they are read: they are augmented at random.

    Why it matters: the score is of distorted samples, lower than what the model is worth, and
    differs from epoch to epoch for another reason than training. A transform that was written for
    training is most often passed to both data sets, or a split shares one data set with it.

    Evidence: the first validation batch read twice, in the loader's fixed order.
    Threshold: a difference of a tenth of the inputs' std or more; a warning where samples are
    classified. Elsewhere noise may be part of the task (denoising, diffusion), and it is a note.
    False alarms: several random views of each sample that are averaged on purpose.
    Convicted by: without the transform the validation score rises and repeats exactly.
    Source: definition of a validation set.
    """
    change = value(history, VAL_CHANGES)
    if not change >= least:
        return None
    return Finding(
        severity="warning" if MEASURED_VAL_ACCURACY in history else "note",
        summary="validation inputs are random: read twice, the same samples differ by "
        f"{number(change)} of their std",
        evidence={"difference, in std": change},
        prescriptions=(
            Prescription(
                change="give the validation split a data set of its own, with the fixed part of "
                "the transform alone (resize, crop at the centre, normalise)",
                expect="a higher validation score, the same each time it is measured",
            ),
        ),
    )
