from math import isfinite

from thalweg.diagnosis.evidence import number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS, WEIGHT_NOT_FINITE


@rule(
    "loss-not-finite",
    stage="optimisation",
    needs=(LOSS,),
    explains=("loss-not-falling",),
    symptom=True,
    after_nan=True,
)
def loss_not_finite(history: History) -> Finding | None:
    """The loss became NaN or infinite.

    Why it matters: one update from such a loss makes every weight NaN; nothing is learned after.
    Another rule usually names the cause: a learning rate too high, a logarithm of an exact zero, a
    sample that is not finite. Alone, this finding only shows where it happened.

    Evidence: the first step whose loss is not finite, the last finite loss before it, and the first
    update after which a weight was not finite. What was measured later shows no cause.
    Threshold: exact.
    False alarms: a loss that is infinite by design, such as CTC on samples too short for their
    label, unless `zero_infinity` is set.
    Convicted by: the same batch and weights give the same loss again.
    Source: IEEE 754; PyTorch documentation, "Numerical accuracy".
    """
    losses = sorted(history.series(LOSS).items())
    bad = next((step for step, loss in losses if not isfinite(loss)), None)
    if bad is None:
        return None
    before = [loss for step, loss in losses if step < bad]
    last = f"; the loss before it was {number(before[-1])}" if before else ""
    return Finding(
        severity="error",
        summary=f"the loss is not finite from step {bad} on{last}{_beginning(history, bad)}",
        where=f"step {bad}",
        evidence={"first step": float(bad), **({"last finite loss": before[-1]} if before else {})},
        prescriptions=(
            Prescription(
                change="clip the gradient norm to 1 and use a tenth of the learning rate",
                expect="every loss is finite",
                edit={"optimizer.max_grad_norm": 1.0},
            ),
            Prescription(
                change="compute losses from logits (cross_entropy, binary_cross_entropy_with_"
                "logits), never from the logarithm of a probability",
                expect="the loss is finite on the very batch where it failed",
            ),
        ),
    )


def _beginning(history: History, bad: int) -> str:
    """The pass in which it began, as the weights show: the update before, or this forward pass."""
    broken = [step for step, flag in history.series(WEIGHT_NOT_FINITE).items() if flag == 1]
    if not broken:
        return ""
    if broken[0] < bad:
        return f"; the update of step {broken[0]} had made the weights NaN, from a finite loss"
    return "; the weights were finite until then, so it began in the forward pass or the loss"
