import numpy as np

from thalweg.diagnosis.evidence import Values
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BATCH_SIZE, LOSS, TARGETS_IGNORED


@rule(
    "no-targets-left",
    stage="wiring",
    needs=(TARGETS_IGNORED, LOSS),
    explains=(
        "loss-not-finite",
        "gradient-never-arrives",
        "vanishing-gradients",
        "learning-rate-too-low",
        "loss-not-falling",
        "missing-zero-grad",
        "unstable-log",
        "stopped-too-early",
    ),
)
def no_targets_left(history: History, *, share: float = 0.2) -> Finding | None:
    """The loss ignores every target of a batch: it is 0/0, and nothing is learned from it.

    Why it matters: a mean over the targets that are not ignored (−100) has no value where none is
    left. The loss is NaN, its gradient zero; a loop that stops at NaN stops, one that does not
    learns nothing from these batches. Most often a mask covers too much: a prompt longer than the
    sequence is cut at, a template whose answer was not recognised, labels compared by the wrong
    token.

    Evidence: batches whose loss is NaN while every gradient at the logits is exactly zero; the
    share of samples without any target; losses that are finite again after a NaN, so that the
    weights are sound.
    Threshold: exact, at a reading; between readings 20 % of the samples without a target, and
    finite losses after NaN ones.
    False alarms: none known.
    Convicted by: a batch with these samples left out has a finite loss.
    Source: PyTorch documentation, "CrossEntropyLoss": `ignore_index` and `reduction="mean"`.
    """
    empty = np.array(list(history.series(TARGETS_IGNORED, "batch").values()))
    shares = history.series(TARGETS_IGNORED, "samples")
    partial = [
        one
        for step, one in shares.items()
        if history.series(TARGETS_IGNORED, "batch").get(step) != 1
    ]
    samples = float(np.mean(partial)) if partial else 1.0
    losses = np.array(list(history.series(LOSS).values()))
    undefined = float(np.isnan(losses).mean()) if len(losses) else 0.0
    between = samples >= share and _returns_to_finite(losses)
    if not (len(empty) and undefined > 0 and (bool(empty.max() == 1) or between)):
        return None
    always = bool(empty.min() == 1) and undefined > 0.9
    size = max(history.series(BATCH_SIZE).values(), default=float("nan"))
    summary = (
        "every target is ignored: the loss is the mean of nothing, NaN"
        if always
        else f"{undefined:.0%} of the batches have no target left, and their loss is NaN"
    )
    return Finding(
        severity="error",
        summary=summary + ("" if always else f"; {samples:.0%} of the samples have none"),
        evidence={"undefined losses": undefined, "samples without target": samples},
        prescriptions=(
            Prescription(
                change="print the labels that are not −100 of one batch; mend the mask, and drop "
                "samples that have no target (such as answers cut off behind a long prompt)",
                expect="each sample has a target, and no loss is NaN",
            ),
        )
        + (() if always or not size < 16 else (_DIVIDE,)),
    )


_DIVIDE = Prescription(
    change='or sum the loss (reduction="sum") and divide it by max(1, number of targets)',
    expect="a batch without targets has the loss 0",
)


def _returns_to_finite(losses: Values) -> bool:
    undefined = np.flatnonzero(np.isnan(losses))
    return bool(len(undefined)) and bool(np.isfinite(losses[undefined[0] :]).any())
