from thalweg.diagnosis.evidence import curve, kind, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    OUTPUT_ACTIVATION,
    OUTPUT_ROW_SUM_ERROR,
    OUTPUT_WIDTH,
    TARGET_HIGH,
    TARGET_INTEGER,
    TARGET_LOW,
    TARGET_ROW_SUM,
)


@rule(
    "softmax-for-many-labels",
    stage="output",
    needs=(OUTPUT_ROW_SUM_ERROR, TARGET_ROW_SUM, TARGET_INTEGER, TARGET_HIGH, TARGET_LOW),
    explains=(
        "loss-not-falling",
        "metric-disagrees-with-loss",
        "training-plateau",
        "underfitting",
        "unstable-log",
    ),
)
def softmax_for_many_labels(history: History, *, several: float = 1.2) -> Finding | None:
    """The outputs of a sample add up to one, but several of its labels hold at once.

    Why it matters: a softmax shares one unit of probability among the labels. A sample with three
    true labels can give them a third each at most: the loss has a floor, and a threshold of 0.5
    finds one label.

    Evidence: rows of the output that sum to one, and rows of targets of zeros and ones.
    Threshold: exact: every row of the output sums to 1 within 1e-3, at every reading; the targets
    are whole, between 0 and 1, and their rows sum to more than 1.2 on average.
    False alarms: none known: targets that are probabilities are not whole.
    Convicted by: the same network with a sigmoid for each label goes below the loss's floor.
    Source: PyTorch documentation, "BCEWithLogitsLoss" (multi-label classification).
    """
    errors = curve(history, OUTPUT_ROW_SUM_ERROR).values
    together = value(history, TARGET_ROW_SUM)
    whole = value(history, TARGET_INTEGER) == 1 and value(history, TARGET_LOW) == 0
    if not len(errors) or not (errors < 1e-3).all() or not together > several:
        return None
    if (
        not whole
        or value(history, TARGET_HIGH) != 1
        or kind(history, OUTPUT_ACTIVATION) == "logsoftmax"
    ):
        return None
    return Finding(
        severity="error",
        summary="the outputs of each sample sum to one (softmax), but on average "
        f"{together:.2g} of its labels hold at once",
        evidence={
            "true labels of a sample": together,
            "labels": value(history, OUTPUT_WIDTH),
        },
        prescriptions=(
            Prescription(
                change="remove the softmax and use binary_cross_entropy_with_logits: a sigmoid for "
                "each label",
                expect="several labels of one sample can be near 1 at once",
            ),
        ),
    )
