from thalweg.diagnosis.evidence import latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    BATCH_SIZE,
    EVAL_MODE_LOSS,
    LAYERS,
    NORM_SAMPLES,
    TRAIN_MODE,
    TRAIN_MODE_LOSS,
)


@rule(
    "batch-norm-on-tiny-batches",
    stage="signal",
    needs=(LAYERS, BATCH_SIZE),
    explains=("loss-oscillates", "overfitting", "over-regularised", "training-plateau"),
)
def batch_norm_on_tiny_batches(
    history: History, *, tiny: float = 4.0, gap: float = 0.1
) -> Finding | None:
    """Batch norms estimate their statistics from a handful of samples.

    Why it matters: with four samples, mean and variance are noise, and so is the layer's output;
    with two, it only shows which is larger. In eval mode the running averages then fit no batch.

    Evidence: samples a batch, in models with batch norm in train mode; the losses in both modes on
    the same samples.
    Threshold: four samples or fewer; a warning if the loss differs by 10 % between the modes, else
    a note.
    False alarms: segmentation and detection, where each sample brings many positions: then the
    losses agree and it stays a note.
    Convicted by: group norm in its place on a copy: the loss falls faster.
    Source: Wu and He 2018, "Group normalization", figure 1 (error doubles at two samples).
    """
    size, modes = value(history, BATCH_SIZE), latest(history, TRAIN_MODE)
    training = any(modes.get(name) == 1 for name in history.by_place(NORM_SAMPLES))
    if not (size <= tiny and training):
        return None
    train, evaluated = value(history, TRAIN_MODE_LOSS), value(history, EVAL_MODE_LOSS)
    apart = abs(train - evaluated) > gap * min(train, evaluated)
    return Finding(
        severity="warning" if apart else "note",
        summary=f"batch norms see {number(size)} samples at a time"
        + (f"; the loss is {number(train)} in train mode, {number(evaluated)} in eval" * apart),
        evidence={"batch size": size},
        prescriptions=(
            Prescription(
                change="use batches of 16 or more, or group norm in place of batch norm",
                expect="the same loss in both modes",
                edit={"batch.size": 32},
            ),
        ),
    )
