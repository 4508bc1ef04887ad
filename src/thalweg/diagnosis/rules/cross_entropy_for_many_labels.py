import numpy as np

from thalweg.diagnosis.evidence import curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import TRUE_LABELS


@rule(
    "cross-entropy-for-many-labels",
    stage="output",
    needs=(TRUE_LABELS,),
    explains=(
        "loss-not-falling",
        "metric-disagrees-with-loss",
        "training-plateau",
        "underfitting",
        "initial-loss-above-chance",
    ),
)
def cross_entropy_for_many_labels(history: History, *, several: float = 1.1) -> Finding | None:
    """A cross-entropy over all classes is given targets of which several hold at once.

    Why it matters: its softmax shares one unit of probability among the labels. A sample with three
    true labels can give them a third each at most: the loss has a floor, and no threshold is right
    for samples with one label and with three.

    Evidence: the loss's gradient at the outputs, which is S·softmax − target for a target whose
    entries sum to S: with targets of zeros and ones, both follow from it.
    Threshold: exact: at every reading the gradient of at least nine rows in ten is that of a target
    of zeros and ones, and these have more than 1.1 ones on average.
    False alarms: none known: soft targets, smoothed and weighted ones have another gradient.
    Convicted by: the same network with a sigmoid for each label goes below the loss's floor.
    Source: PyTorch documentation, "CrossEntropyLoss" (class probabilities) and "BCEWithLogitsLoss".
    """
    labels = curve(history, TRUE_LABELS).values
    if not len(labels) or not (labels > several).all():
        return None
    together = float(np.mean(labels))
    return Finding(
        severity="error",
        summary="cross-entropy compares one softmax over all classes with targets of which "
        f"{number(round(together, 2))} hold at once on average",
        evidence={"true labels of a sample": together},
        prescriptions=(
            Prescription(
                change="use nn.BCEWithLogitsLoss: a sigmoid for each label",
                expect="several labels of one sample can be near 1 at once",
            ),
        ),
    )
