from math import e, log

from thalweg.diagnosis.evidence import curve, kind, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    LOGITS_SQUASHED,
    LOSS_ARGUMENT,
    LOSS_INPUT,
    LOSS_KIND,
    NUM_CLASSES,
    OUTPUT_ROW_SUM_ERROR,
    OUTPUT_WIDTH,
)

TAKING_LOGITS = ("cross_entropy", "bce_with_logits")
SQUASHED = ("softmax", "sigmoid")
CUT = ("relu",)
BOUNDED = ("tanh",)


@rule(
    "logits-squashed-twice",
    stage="output",
    needs=(LOSS_KIND, LOSS_INPUT, LOGITS_SQUASHED),
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
    """A softmax, sigmoid, tanh or ReLU is applied before a loss that expects raw logits.

    Why it matters: `cross_entropy` and `binary_cross_entropy_with_logits` expect logits. They
    squash probabilities in [0, 1] once more: of ten classes, none can get more than
    e/(e + 9) = 23 % and the loss cannot go below ln(1 + 9/e) = 1.46 nat. Gradients are small and
    vanish where the model is confident; accuracy may still look good. A ReLU in that place cuts
    all negative logits to zero, and with them the gradient of every class that it has turned off; a
    tanh keeps them between −1 and 1.

    Evidence: the operation before each such loss function, in the loss's graph, also where the loss
    is a sum of several and where a softmax is made by hand: exp(log_softmax(x)), exp(x) / Σ exp(x);
    or rows of output that are not negative and sum to 1, where the loss takes the output as it is.
    Threshold: exact; where the graph does not show it, rows within 1e-4 of 1 at every reading.
    Not checked where neither shows what the loss takes.
    False alarms: logits bounded on purpose by a sigmoid or tanh; with a factor after it, it passes.
    Convicted by: without it, the loss on one batch falls below the floor.
    Source: PyTorch documentation, "CrossEntropyLoss": "input is expected to contain the
    unnormalized logits"; pytorch issue 55902.
    """
    errors = curve(history, OUTPUT_ROW_SUM_ERROR)
    loss, name = _squashed_argument(history)
    evidence = {}
    if kind(history, LOSS_KIND) == "cross_entropy" and _are_probabilities(history, close):
        loss, name = "cross_entropy", name or "softmax"
        evidence = {"largest |row sum − 1|": float(errors.values.max())}
    if not name:
        return None
    return Finding(
        severity="warning",
        summary=f"the model's outputs pass a {name} before {loss}, {_harm(loss, name)}",
        evidence=evidence,
        prescriptions=(
            Prescription(
                change=f"return logits: take the {name} out of the model"
                + (", and apply it only to show probabilities" if name in SQUASHED else ""),
                expect=_expectation(history, loss, name),
            ),
        ),
    )


def _squashed_argument(history: History) -> tuple[str, str]:
    """A loss function that takes logits and the squashing operation before it, or ("", "")."""
    pairs = [(kind(history, LOSS_KIND), kind(history, LOSS_INPUT))]
    for argument in sorted(history.by_place(LOSS_ARGUMENT)):
        loss, _, applied = argument.partition(": ")
        pairs.append((loss, applied))
    squashed = (
        (loss, applied)
        for loss, applied in pairs
        if loss in TAKING_LOGITS and applied in SQUASHED + CUT + BOUNDED
    )
    return next(squashed, ("", ""))


def _are_probabilities(history: History, close: float) -> bool:
    """True if at three readings or more, and at all, no output is negative and rows sum to 1."""
    errors = curve(history, OUTPUT_ROW_SUM_ERROR)
    measured = len(history.series(OUTPUT_ROW_SUM_ERROR))
    if not 3 <= len(errors) == measured or float(errors.values.max()) >= close:
        return False
    return bool(curve(history, LOGITS_SQUASHED).values.min(initial=1.0) == 1)


def _expectation(history: History, loss: str, name: str) -> str:
    """The least loss that squashed logits allow, where the number of classes shows it."""
    if name not in SQUASHED:
        return "larger gradients, for every class"
    if loss == "bce_with_logits":
        return "the loss of samples without the label falls below ln 2 = 0.693; larger gradients"
    classes = value(history, NUM_CLASSES)
    if not classes > 1 and name == "softmax" and curve(history, OUTPUT_ROW_SUM_ERROR).values.size:
        rows = float(curve(history, OUTPUT_ROW_SUM_ERROR).values.max()) < 1e-4
        classes = value(history, OUTPUT_WIDTH) if rows else classes
    if not classes > 1:
        return "a training loss below the least one that probabilities allow; larger gradients"
    least = number(log(1 + (classes - 1) / e))
    return f"the training loss falls below {least} nat ({classes:.0f} classes); larger gradients"


def _harm(loss: str, name: str) -> str:
    if name in CUT:
        return "which cuts off negative logits"
    if name in BOUNDED:
        return "which keeps the logits between −1 and 1"
    return f"and {loss} applies one itself"
