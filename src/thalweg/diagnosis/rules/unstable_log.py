from math import isfinite

from thalweg.diagnosis.evidence import curve, kind
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    LOSS,
    LOSS_INPUT,
    LOSS_KIND,
    OUTPUT_ACTIVATION,
    OUTPUT_HIGH,
    OUTPUT_LOW,
)


@rule(
    "unstable-log",
    stage="output",
    needs=(LOSS_KIND, LOSS),
    explains=("loss-not-finite", "learning-rate-too-high"),
    after_nan=True,
)
def unstable_log(history: History) -> Finding | None:
    """The loss takes the logarithm of a probability that can be exactly 0.

    Why it matters: in float32 a softmax or sigmoid is exactly 0 from a logit difference of 104 on
    and exactly 1 from 17 on; its logarithm, or the logarithm of one minus it, is then infinite and
    the gradient NaN. Fused losses on logits never form the probability.

    Evidence: a logarithm of a softmax or sigmoid in the loss's graph, or a binary cross-entropy of
    probabilities; outputs that were exactly 0 or 1; whether the loss became NaN or infinite.
    Threshold: a warning when the loss was not finite or outputs reached exactly 0 or 1; else a
    note, since it has not happened yet.
    False alarms: `binary_cross_entropy` clamps its logarithm at −100, so it loses gradient rather
    than overflow.
    Convicted by: the logit version of the loss is finite on the batch where this one was not.
    Source: PyTorch documentation, "BCEWithLogitsLoss" (log-sum-exp trick).
    """
    loss, applied = kind(history, LOSS_KIND), kind(history, LOSS_INPUT)
    by_hand = loss == "nll_of_log" or applied == "log"
    binary = loss == "bce" and kind(history, OUTPUT_ACTIVATION) in ("sigmoid", "softmax", "relu")
    if not (by_hand or binary):
        return None
    broke = any(not isfinite(each) for each in history.series(LOSS).values())
    low, high = curve(history, OUTPUT_LOW).values, curve(history, OUTPUT_HIGH).values
    touched = len(low) > 0 and (bool((low == 0).any()) or bool((high == 1).any()))
    return Finding(
        severity="warning" if broke or (touched and by_hand) else "note",
        summary="the loss takes the logarithm of probabilities"
        + (", and became infinite or NaN" if broke else ""),
        prescriptions=(
            Prescription(
                change="return logits and use cross_entropy or binary_cross_entropy_with_logits",
                expect="every loss is finite",
            ),
        ),
    )
