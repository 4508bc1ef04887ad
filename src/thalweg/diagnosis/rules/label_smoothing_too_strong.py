from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LABEL_SMOOTHING


@rule(
    "label-smoothing-too-strong",
    stage="output",
    needs=(LABEL_SMOOTHING,),
    explains=("learning-rate-too-low", "training-plateau", "underfitting", "vanishing-gradients"),
)
def label_smoothing_too_strong(history: History, *, most: float = 0.5) -> Finding | None:
    """Label smoothing leaves the true class less than half of the target.

    Why it matters: label_smoothing is the share that is spread over all classes, usually 0.1. With
    0.9, the true class keeps 0.1 of the target, and the loss asks for outputs that hardly differ.

    Evidence: the factor of the true class in the loss's graph.
    Threshold: exact: 0.5 or more.
    False alarms: none known.
    Convicted by: with 0.1 the training accuracy rises faster at the same steps.
    Source: Szegedy et al. 2016, "Rethinking the Inception architecture", section 7 (0.1).
    """
    smoothing = value(history, LABEL_SMOOTHING)
    if not smoothing >= most:
        return None
    return Finding(
        severity="warning",
        summary=f"label smoothing is {smoothing:.2g}: the true class keeps {1 - smoothing:.2g} of "
        "the target",
        evidence={"label smoothing": smoothing},
        prescriptions=(
            Prescription(change="set label_smoothing to 0.1", expect="larger gradients"),
        ),
    )
