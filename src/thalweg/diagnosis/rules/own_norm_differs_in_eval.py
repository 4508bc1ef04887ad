from thalweg.diagnosis.evidence import latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import FORWARD_PASSES, LOSS, OWN_NORM_GAP, OWN_NORM_STORES
from thalweg.wording import some


@rule(
    "own-norm-differs-in-eval",
    stage="wiring",
    needs=(OWN_NORM_GAP, OWN_NORM_STORES),
    explains=(
        "loss-oscillates",
        "metric-disagrees-with-loss",
        "overfitting",
        "over-regularised",
        "stopped-too-early",
        "underfitting",
    ),
)
def own_norm_differs_in_eval(
    history: History, *, unused: float = 0.25, apart: float = 1.0, least_steps: int = 20
) -> Finding | None:
    """A hand-written batch norm computes something else in eval mode than in train mode.

    Why it matters: in train mode the layer uses the statistics of its batch, in eval mode stored
    ones. Where these are never stored, lag far behind, or are used in another formula, the network
    that is validated is not the one that was trained.

    Evidence: each layer of a class of the user's own that depends on the other samples in train
    mode and not in eval mode, on its input in a real batch: the outputs in both modes, and whether
    a pass in train mode changes its buffers.
    Threshold: an error where a pass changes none of them and the outputs differ by a quarter of
    their spread; a warning where they differ by their whole spread after 20 updates.
    False alarms: statistics that a later pass collects (population statistics). Silent for layers
    that draw random numbers, for those that contain other layers, and, where statistics are stored,
    if batches of several kinds pass in one update.
    Convicted by: with the training data's statistics in the buffers, the validation loss falls.
    Source: Ioffe and Szegedy 2015, "Batch normalization", algorithm 2.
    """
    gaps, stores = latest(history, OWN_NORM_GAP), latest(history, OWN_NORM_STORES)
    if history.count(LOSS) < least_steps:
        return None
    frozen = [n for n, gap in gaps.items() if gap > unused and stores.get(n) == 0]
    passes = value(history, FORWARD_PASSES)
    far = [n for n, gap in gaps.items() if gap > apart and stores.get(n) == 1 and not passes > 1]
    names = frozen or far
    if not names:
        return None
    gap = gaps[names[0]]
    reason = (
        "a pass in train mode stores no statistics"
        if frozen
        else "the stored statistics, or their formula, are not those of the training batches"
    )
    change = (
        "store the running statistics in train mode, in place: "
        "self.running_mean.mul_(1 - momentum).add_(momentum * mean.detach())"
        if frozen
        else "move the running statistics by 0.1 of the difference in each batch, and use the "
        "formula of train mode: (x - mean) / sqrt(var + eps)"
    )
    return Finding(
        severity="error" if frozen else "warning",
        summary=f"in eval mode {some(names)} give other outputs for the same batch: {reason}",
        where=names[0],
        evidence={"difference of the outputs, in their spread": gap},
        prescriptions=(
            Prescription(
                change=f"{change}; or use torch.nn.BatchNorm",
                expect=f"the difference falls from {number(gap)} to the noise of a batch",
            ),
        ),
    )
