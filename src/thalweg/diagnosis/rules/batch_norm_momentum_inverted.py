from thalweg.diagnosis.evidence import latest, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import NORM_BATCHES, NORM_MOMENTUM, NORM_NOISE
from thalweg.wording import some


@rule(
    "batch-norm-momentum-inverted",
    stage="wiring",
    needs=(NORM_MOMENTUM, NORM_BATCHES),
    explains=(
        "batch-norm-on-tiny-batches",
        "batch-norm-statistics-stale",
        "loss-oscillates",
        "metric-disagrees-with-loss",
        "overfitting",
        "over-regularised",
        "underfitting",
    ),
)
def batch_norm_momentum_inverted(
    history: History, *, high: float = 0.9, noisy: float = 0.05, least: int = 3
) -> Finding | None:
    """A batch norm's momentum has TensorFlow's meaning: here it keeps the last batch alone.

    Why it matters: PyTorch's momentum is the share of the newest batch, 0.1 by default; Keras's
    0.99 means 0.01 here. With 0.99, the running averages are the statistics of the last batch: in
    eval mode the network normalises with the noise of one batch, and scores jump.

    Evidence: the momentum of each batch norm whose running statistics were updated, and the noise
    of one batch's mean, beside the spread of its samples.
    Threshold: a momentum from 0.9 up to, but not, 1. A warning where the mean of a batch is known
    to 5 % of its standard deviation at best, else a note.
    False alarms: a momentum of 1 is taken for a choice, as in meta-learning.
    Convicted by: with 1 − momentum, validation scores rise and jump less.
    Source: PyTorch documentation, `nn.BatchNorm2d`, note on momentum; Keras documentation,
    `BatchNormalization` (momentum=0.99).
    """
    momenta, batches = latest(history, NORM_MOMENTUM), latest(history, NORM_BATCHES)
    names = [
        name
        for name, momentum in momenta.items()
        if high <= momentum < 1 and batches.get(name, 0.0) >= least
    ]
    if not names:
        return None
    noise = latest(history, NORM_NOISE)
    highest = max((noise[name] for name in names if name in noise), default=float("nan"))
    momentum = max(momenta[name] for name in names)
    return Finding(
        severity="note" if highest < noisy else "warning",
        summary=f"momentum={number(momentum)} in {some(names)}: in PyTorch that is the share of "
        "the newest batch, so the running statistics are those of the last batch alone",
        where=names[0],
        evidence={"momentum": momentum}
        | ({"error of one batch's mean, in stds": highest} if highest == highest else {}),
        prescriptions=(
            Prescription(
                change=f"set momentum={number(round(1 - momentum, 6))}, or the default 0.1",
                expect="the same loss in train and eval mode; validation scores rise",
            ),
        ),
    )
