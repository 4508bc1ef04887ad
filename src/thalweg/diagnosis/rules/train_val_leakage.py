from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import DUPLICATED, LEAKED


@rule("train-val-leakage", stage="data", needs=(LEAKED, DUPLICATED))
def train_val_leakage(history: History, *, share: float = 0.01) -> Finding | None:
    """Validation samples are in the training split as well.

    Why it matters: on these, validation measures memory. The score is too good, overfitting does
    not show, and the checkpoint and hyper-parameters chosen by it are the wrong ones.

    Evidence: hashes of the samples' bytes, across the splits and within the training split.
    Threshold: 1 % of the validation samples and twice the rate of copies within the training split
    (inputs of a few discrete values coincide by nature).
    False alarms: such coincidences at a higher rate across than within.
    Convicted by: without the copies the validation score falls.
    Source: Barz and Denzler 2020, "Do we train on test data?" (3.3 % of CIFAR-10's test images).
    """
    leaked, repeated = value(history, LEAKED), value(history, DUPLICATED)
    if not leaked > max(share, 2 * repeated):
        return None
    return Finding(
        severity="warning",
        summary=f"{leaked:.0%} of the validation samples are training samples too, bit for bit",
        evidence={"leaked share": leaked, "copies within train": repeated},
        prescriptions=(
            Prescription(
                change="drop the copies from training, and split by content (or by person, scene, "
                "document) before augmenting",
                expect="a lower, honest validation score",
            ),
        ),
    )
