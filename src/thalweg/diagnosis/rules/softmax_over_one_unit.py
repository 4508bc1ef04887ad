from thalweg.diagnosis.evidence import curve, kind, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    LOSS_KIND,
    OUTPUT_ACTIVATION,
    OUTPUT_HIGH,
    OUTPUT_LOW,
    OUTPUT_WIDTH,
)


@rule(
    "softmax-over-one-unit",
    stage="output",
    needs=(OUTPUT_WIDTH, OUTPUT_LOW, OUTPUT_HIGH),
    explains=(
        "loss-does-not-fit-task",
        "output-cannot-reach-targets",
        "gradient-never-arrives",
        "learning-rate-too-low",
        "unscaled-inputs",
        "vanishing-gradients",
    ),
)
def softmax_over_one_unit(history: History) -> Finding | None:
    """The model has one output, and a softmax makes it 1 whatever the input.

    Why it matters: a softmax makes its outputs sum to 1. A single output is then always 1, its
    gradient zero, and no weight ever moves.

    Evidence: the number of outputs, and their smallest and largest value over the readings.
    Threshold: exact: one output that is always 1 (its logarithm 0 behind a log-softmax), or
    cross-entropy of one logit.
    False alarms: none known.
    Convicted by: the gradient of the output with respect to every weight is zero.
    Source: definition; Stack Overflow 42800203 and 45442843.
    """
    if value(history, OUTPUT_WIDTH) != 1:
        return None
    low, high = curve(history, OUTPUT_LOW).values, curve(history, OUTPUT_HIGH).values
    constant = 0 if kind(history, OUTPUT_ACTIVATION) == "logsoftmax" else 1
    pinned = len(low) > 0 and bool((low == constant).all() and (high == constant).all())
    entropy = kind(history, LOSS_KIND) == "cross_entropy"
    if not (entropy or pinned):
        return None
    return Finding(
        severity="error",
        summary="a softmax over a single output is always 1: the model cannot depend on its input",
        evidence={"outputs": 1.0},
        prescriptions=(
            Prescription(
                change="use one logit with binary_cross_entropy_with_logits, or two outputs with "
                "cross_entropy",
                expect="outputs that differ between samples, and a loss that falls",
            ),
        ),
    )
