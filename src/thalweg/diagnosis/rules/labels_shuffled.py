import numpy as np

from thalweg.diagnosis.evidence import curve
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LABELS_SHUFFLED


@rule(
    "labels-shuffled",
    stage="wiring",
    needs=(LABELS_SHUFFLED,),
    explains=(
        "labels-without-signal",
        "label-noise",
        "loss-not-falling",
        "learning-rate-too-low",
        "metric-disagrees-with-loss",
        "optimisation-failure",
        "output-ignores-inputs",
        "overfitting",
        "stopped-too-early",
        "train-val-shift",
        "training-plateau",
        "underfitting",
        "vanishing-gradients",
    ),
)
def labels_shuffled(history: History, *, fewest: int = 3) -> Finding | None:
    """The loss compares samples with the labels of others: within the batch the order changed.

    Why it matters: inputs and labels that are sorted, shuffled or gathered apart no longer belong
    to each other. A large model learns the training labels by heart at best, and nothing of use.

    Evidence: the targets of the loss, as its gradient at the model's output shows them, beside the
    labels that the loader gave with the very inputs that the model was called with.
    Threshold: exact: the targets are the batch's labels, some of them at another sample; at three
    readings and more, and at more than half of them.
    False alarms: labels that are shuffled on purpose, to see what a model learns by heart.
    Convicted by: with the labels in the order of their inputs, the loss falls from the same start.
    Source: Zhang et al. 2017, "Understanding deep learning requires rethinking generalization"
    (random labels).
    """
    shares = curve(history, LABELS_SHUFFLED).values
    moved = shares > 0
    if moved.sum() < fewest or not moved.mean() > 0.5:
        return None
    share = float(np.median(shares))
    return Finding(
        severity="error",
        summary=f"the loss compares {share:.0%} of the samples with another sample's label: within "
        "the batch, the labels are in another order than the inputs",
        evidence={"samples with another label": share, "readings": float(moved.sum())},
        prescriptions=(
            Prescription(
                change="find where the labels or the inputs of a batch are shuffled, sorted or "
                "indexed without the other, between the loader and the loss",
                expect="a loss that falls from the first epoch on",
            ),
        ),
    )
