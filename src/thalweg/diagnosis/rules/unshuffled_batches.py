from thalweg.diagnosis.evidence import number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import CLASS_RUN_Z


@rule(
    "unshuffled-batches",
    stage="data",
    needs=(CLASS_RUN_Z,),
    explains=(
        "learning-rate-too-high",
        "loss-oscillates",
        "overfitting",
        "exploding-gradients",
        "loss-not-falling",
        "training-plateau",
        "underfitting",
        "train-val-shift",
        "learning-rate-too-low",
    ),
)
def unshuffled_batches(history: History, *, most: float = 6.0) -> Finding | None:
    """Batches hold far fewer classes than a shuffled order would put into them.

    Why it matters: with samples sorted by class, each batch pulls the model towards its own class
    and the next one pulls it away. Losses look excellent within a class and leap at its end;
    batch norms learn statistics of one class at a time.

    Evidence: the mean number of different classes a batch, against 20 shuffles of the same labels.
    Threshold: 6 standard deviations below the shuffled mean.
    False alarms: batches composed on purpose, as for contrastive or metric learning.
    Convicted by: the same samples shuffled are learned faster.
    Source: Bengio 2012, "Practical recommendations for gradient-based training", §3.
    """
    z = value(history, CLASS_RUN_Z)
    if not z > most:
        return None
    return Finding(
        severity="warning",
        summary="batches are not shuffled: each holds far fewer classes than chance would put "
        f"there ({number(z)} standard deviations)",
        evidence={"standard deviations": z},
        prescriptions=(
            Prescription(
                change="shuffle the training samples each epoch: DataLoader(…, shuffle=True)",
                expect="every batch holds samples of most classes",
            ),
        ),
    )
