from thalweg.diagnosis.evidence import curve, kind
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS_INPUT, LOSS_KIND, OUTPUT_ROW_SUM_ERROR

SQUASHED = ("softmax", "sigmoid")
CUT = ("relu",)


@rule(
    "logits-squashed-twice",
    stage="output",
    needs=(LOSS_KIND, LOSS_INPUT),
    explains=(
        "output-cannot-reach-targets",
        "learning-rate-too-low",
        "training-plateau",
        "underfitting",
        "stopped-too-early",
        "saturated-activations",
        "vanishing-gradients",
        "loss-does-not-fit-task",
        "optimisation-failure",
    ),
)
def logits_squashed_twice(history: History, *, close: float = 1e-4) -> Finding | None:
    """A softmax, sigmoid or ReLU is applied before a loss that expects raw logits.

    Why it matters: `cross_entropy` and `binary_cross_entropy_with_logits` expect logits. They
    squash probabilities in [0, 1] once more: of ten classes, none can get more than
    e/(e + 9) = 23 % and the loss cannot go below ln(1 + 9/e) = 1.46 nat. Gradients are small and
    vanish where the model is confident; accuracy may still look good. A ReLU in that place cuts
    all negative logits to zero, and with them the gradient of every class that it has turned off.

    Evidence: the operation before the loss, in the loss's graph; or rows of output that are not
    negative and sum to 1.
    Threshold: exact; where the graph does not show it, rows within 1e-4 of 1 at every reading.
    False alarms: a sigmoid that bounds logits on purpose; with a factor after it, it passes.
    Convicted by: without it, the loss on one batch falls below the floor.
    Source: PyTorch documentation, "CrossEntropyLoss": "input is expected to contain the
    unnormalized logits"; pytorch issue 55902.
    """
    loss, applied = kind(history, LOSS_KIND), kind(history, LOSS_INPUT)
    if loss not in ("cross_entropy", "bce_with_logits"):
        return None
    errors = curve(history, OUTPUT_ROW_SUM_ERROR)
    rows = len(errors) >= 3 and len(errors) == len(history.series(OUTPUT_ROW_SUM_ERROR))
    rows = rows and float(errors.values.max()) < close and loss == "cross_entropy"
    if applied not in SQUASHED + CUT and not rows:
        return None
    name = applied if applied in SQUASHED + CUT else "softmax"
    why = "which cuts off negative logits" if name in CUT else f"and {loss} applies one itself"
    return Finding(
        severity="warning",
        summary=f"the model's outputs pass a {name} before {loss}, {why}",
        evidence={"largest |row sum − 1|": float(errors.values.max())} if rows else {},
        prescriptions=(
            Prescription(
                change=f"return logits: take the {name} out of the model"
                + ("" if name in CUT else ", and apply it only to show probabilities"),
                expect="larger gradients, for every class"
                if name in CUT
                else "the training loss falls below 1.46 nat (ten classes); larger gradients",
            ),
        ),
    )
