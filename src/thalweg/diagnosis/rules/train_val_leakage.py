from math import sqrt

from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import DUPLICATED, LEAKED, NEAR_COPIED, VAL_SAMPLES

MANY = 5  # samples, from which on copies are no accident
LEAST_NEAR = 2


@rule("train-val-leakage", stage="data", needs=(LEAKED, DUPLICATED, VAL_SAMPLES))
def train_val_leakage(history: History, *, share: float = 0.01) -> Finding | None:
    """Validation samples are in the training split as well.

    Why it matters: on these, validation measures memory. The score is too good, overfitting does
    not show, and the checkpoint and hyper-parameters chosen by it are the wrong ones.

    Evidence: hashes of the samples' bytes, across the splits and within the training split; of
    images that thalweg trains on, near copies too (compressed, resized, mirrored or cut anew).
    Threshold: 1 % of the validation samples and twice the rate of copies within the training split
    (inputs of a few discrete values coincide by nature), and three standard errors of the count
    more than that rate; a warning from five samples on, or three that are half of the split.
    For near copies 1 % as well, a warning from five samples on.
    False alarms: such coincidences at a higher rate across than within.
    Convicted by: without the copies the validation score falls.
    Source: Barz and Denzler 2020, "Do we train on test data?" (3.3 % of CIFAR-10's test images).
    """
    leaked, repeated = value(history, LEAKED), value(history, DUPLICATED)
    samples = value(history, VAL_SAMPLES)
    count, expected = leaked * samples, repeated * samples
    if not (leaked > max(share, 2 * repeated) and count > expected + 3 * sqrt(max(expected, 0))):
        return _near_copies(history, share)
    many = count >= MANY or (count >= 3 and leaked >= 0.5)
    return Finding(
        severity="warning" if many else "note",
        summary=f"{leaked:.0%} of the validation samples are training samples too, bit for bit",
        evidence={"leaked share": leaked, "copies within train": repeated},
        prescriptions=(_SPLIT_BY_CONTENT,),
    )


_SPLIT_BY_CONTENT = Prescription(
    change="drop the copies from training, and split by content (or by person, scene, document) "
    "before augmenting",
    expect="a lower, honest validation score",
)


def _near_copies(history: History, share: float) -> Finding | None:
    near = value(history, NEAR_COPIED)
    count = near * value(history, VAL_SAMPLES)
    if not (near > share and count >= LEAST_NEAR):
        return None
    return Finding(
        severity="warning" if count >= MANY else "note",
        summary=f"{near:.0%} of the validation samples are near copies of training samples",
        evidence={"share of near copies": near},
        prescriptions=(_SPLIT_BY_CONTENT,),
    )
