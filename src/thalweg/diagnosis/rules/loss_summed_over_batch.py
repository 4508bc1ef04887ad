from thalweg.diagnosis.evidence import curve, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BATCH_SIZE, SUMMED_LOSS


@rule(
    "loss-summed-over-batch",
    stage="output",
    needs=(SUMMED_LOSS, BATCH_SIZE),
    explains=(
        "initial-loss-above-chance",
        "learning-rate-too-high",
        "exploding-gradients",
        "loss-oscillates",
        "dead-relu",
    ),
)
def loss_summed_over_batch(history: History) -> Finding | None:
    """The loss is the sum over the batch, so gradients grow with the number of samples in it.

    Why it matters: the learning rate then means something else for every batch size, the last,
    smaller batch of an epoch counts less, clipping and weight decay are out of proportion.

    Evidence: the last operation of the loss's graph.
    Threshold: exact: a sum, or `reduction="sum"`, with more than one sample in the batch.
    False alarms: an evidence lower bound, summed by convention (as a sum of two terms it passes).
    Convicted by: the loss of a batch with every sample twice is twice as large.
    Source: Nikanjam et al. 2021, "TheDeepChecker" (loss growing with the batch size).
    """
    size = float(curve(history, BATCH_SIZE).values.max(initial=0))
    if value(history, SUMMED_LOSS) != 1 or size < 2:
        return None
    return Finding(
        severity="warning",
        summary=f"the loss is a sum over {number(size)} samples, not their mean",
        evidence={"batch size": size},
        prescriptions=(
            Prescription(
                change='use reduction="mean", with the learning rate multiplied by the batch size '
                "if it was right before",
                expect=f"losses and gradients smaller by {number(size)}; the first loss at chance",
            ),
        ),
    )
