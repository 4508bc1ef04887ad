from thalweg.diagnosis.evidence import latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    LOSS,
    MODE_GAP,
    NORM_AT_START,
    NORM_BATCHES,
    NORM_GAP,
    NORM_MOMENTUM,
)
from thalweg.wording import some


@rule(
    "batch-norm-statistics-stale",
    stage="wiring",
    needs=(NORM_AT_START, NORM_BATCHES),
    explains=(
        "loss-oscillates",
        "metric-disagrees-with-loss",
        "overfitting",
        "over-regularised",
        "stopped-too-early",
        "underfitting",
    ),
)
def batch_norm_statistics_stale(
    history: History, *, apart: float = 1.0, least: int = 20
) -> Finding | None:
    """The running statistics of batch norms do not fit the batches that the network is trained on.

    Why it matters: in train mode a batch norm uses the statistics of its batch, in eval mode the
    running ones. Where these never followed (a momentum of zero or near it, weights that were
    averaged or loaded without their buffers), the network that is validated is not the one that
    was trained.

    Evidence: running mean and variance of each batch norm in train mode; beside them the mean of a
    real batch at the end of training, and the outputs with the one and the other.
    Threshold: exact where mean 0 and variance 1 have not moved in 20 batches. Elsewhere the median
    channel of the median layer must be off by a standard deviation, and the outputs by their own
    spread.
    False alarms: silent where batches of several kinds pass in one update, as the real and the
    generated ones of a discriminator, in runs of less than 20 updates, and for running statistics
    that are a plain mean over all batches (momentum=None).
    Convicted by: with the statistics of the training data (`torch.optim.swa_utils.update_bn`), the
    validation loss falls at once.
    Source: Ioffe and Szegedy 2015, "Batch normalization", section 3.1; PyTorch documentation,
    `torch.optim.swa_utils.update_bn`.
    """
    batches, momenta = latest(history, NORM_BATCHES), latest(history, NORM_MOMENTUM)
    updated = [name for name, count in batches.items() if count >= least]
    unmoved = [n for n in updated if latest(history, NORM_AT_START).get(n) == 1]
    if unmoved:
        reason = f"momentum={number(momenta.get(unmoved[0], float('nan')))}"
        return _finding(unmoved, f"have not moved in {batches[unmoved[0]]:.0f} batches ({reason})")
    following = [name for name in updated if momenta.get(name, 0.0) > 0]  # no plain mean
    gaps = sorted(
        (gap, name) for name, gap in latest(history, NORM_GAP).items() if name in following
    )
    steps, difference = history.count(LOSS), value(history, MODE_GAP)
    if not gaps or max(batches.values()) > 1.5 * steps or not difference > apart:
        return None
    median = gaps[len(gaps) // 2][0]
    if not median > apart:
        return None
    names = [name for gap, name in reversed(gaps) if gap > apart]
    text = f"are off by {number(median)} standard deviations from those of the training batches"
    return _finding(names, text, evidence={"difference of the outputs, in spreads": difference})


def _finding(names: list[str], text: str, *, evidence: dict[str, float] | None = None) -> Finding:
    return Finding(
        severity="warning",
        summary=f"the running statistics of {some(names)} {text}: in eval mode it is another "
        "network than the one that is trained",
        where=names[0],
        evidence=evidence or {},
        prescriptions=(
            Prescription(
                change="use the default momentum=0.1; copy buffers along with averaged or loaded "
                "weights, or pass the training data through torch.optim.swa_utils.update_bn",
                expect="the same loss in train and eval mode",
            ),
        ),
    )
