from thalweg.diagnosis.evidence import latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import FORWARD_PASSES, LOSS, MODE_GAP, NORM_BATCHES
from thalweg.wording import some


@rule(
    "batch-norm-shared",
    stage="wiring",
    needs=(NORM_BATCHES, FORWARD_PASSES, MODE_GAP),
    explains=(
        "loss-oscillates",
        "metric-disagrees-with-loss",
        "overfitting",
        "over-regularised",
        "stopped-too-early",
        "underfitting",
    ),
)
def batch_norm_shared(
    history: History, *, least_steps: int = 20, apart: float = 0.5
) -> Finding | None:
    """One batch norm is called at several places of the network, whose statistics differ.

    Why it matters: in train mode each place uses the statistics of its own batch, and all goes
    well. There is one set of running statistics for them all, which fits none: in eval mode it is
    another network than the one that was trained.

    Evidence: batches that a batch norm's running statistics have seen, against updates with one
    forward pass each; and the outputs with running statistics against those with a batch's own.
    Threshold: two batches or more an update, and outputs that differ by half of their own spread.
    False alarms: silent where one update takes several passes of the model, and where the places
    have the same statistics, as in the two branches of a siamese network.
    Convicted by: with a batch norm for each place, train and eval mode agree.
    Source: Ioffe and Szegedy 2015, "Batch normalization", section 3.1: statistics of one
    activation; PyTorch issue 4741.
    """
    steps, difference = history.count(LOSS), value(history, MODE_GAP)
    if steps < least_steps or value(history, FORWARD_PASSES) != 1 or not difference > apart:
        return None
    batches = latest(history, NORM_BATCHES)
    shared = [name for name, count in batches.items() if count >= 1.9 * steps]
    if not shared:
        return None
    calls = batches[shared[0]] / steps
    return Finding(
        severity="warning",
        summary=f"{some(shared)} runs {number(calls)} times in a forward pass, with one set of "
        "running statistics for places that differ: in eval mode it is another network",
        where=shared[0],
        evidence={"calls in a pass": calls, "difference of the outputs, in spreads": difference},
        prescriptions=(
            Prescription(
                change="give each place a batch norm of its own",
                expect="the same loss in train and eval mode",
            ),
        ),
    )
