from collections.abc import Iterator

from thalweg.diagnosis.evidence import curve, kind, value
from thalweg.diagnosis.rule import Finding, Prescription, Severity, rule
from thalweg.record import History
from thalweg.record.quantities import (
    LOSS,
    LOSS_INPUT,
    LOSS_KIND,
    OUTPUT_ACTIVATION,
    OUTPUT_WIDTH,
    TARGET_DISTINCT,
    TARGET_HIGH,
    TARGET_INTEGER,
    TARGET_IS_INDEX,
    TARGET_LOW,
    TARGET_ROW_SUM,
)

REGRESSIVE = ("mse", "l1", "smooth_l1")


@rule(
    "loss-does-not-fit-task",
    stage="output",
    needs=(LOSS_KIND,),
    explains=(
        "learning-rate-too-low",
        "underfitting",
        "training-plateau",
        "stopped-too-early",
        "output-cannot-reach-targets",
    ),
)
def loss_does_not_fit_task(history: History) -> Finding | None:
    """The loss does not fit the kind of the targets.

    Why it matters: squared error on class numbers says that a 9 is nearer to an 8 than to a 0;
    squared error after a softmax or sigmoid has gradients that vanish when the model is
    confidently wrong; cross-entropy over several true classes lets them compete; a negative
    log-likelihood of plain probabilities has no lower bound.

    Evidence: the loss function and the last operation as the graph shows them; type, range and
    distinct values of the targets; rows of targets that sum to 1 or do not; the sign of the loss.
    Threshold: exact combinations, listed below; a binary cross-entropy on one of many classes is
    a note, since it is also used on purpose.
    False alarms: the Brier score (squared error of a softmax) on purpose; ordered ratings as
    integers.
    Convicted by: short runs with each loss, compared by the metric.
    Source: Golik, Doetsch and Ney 2013, "Cross-entropy vs. squared error training"; Wightman,
    Touvron and Jégou 2021, "ResNet strikes back", for the binary loss on classes.
    """
    loss, activation = kind(history, LOSS_KIND), kind(history, OUTPUT_ACTIVATION)
    for problem, severity, cure in _problems(history, loss, activation):
        return Finding(
            severity=severity,
            summary=problem,
            prescriptions=(
                Prescription(change=cure, expect="the metric rises faster at the same steps"),
            ),
        )
    return None


ENTROPY = "use cross_entropy on logits"
BINARY = "use binary_cross_entropy_with_logits on logits, one for each label"
Problem = tuple[str, Severity, str]  # summary, severity, prescription


def _problems(history: History, loss: str, activation: str) -> Iterator[Problem]:
    if activation == "sigmoid" and value(history, OUTPUT_WIDTH) == 1 and _class_numbers(history):
        classes = f"{value(history, TARGET_DISTINCT):.0f}"
        cure = f"{classes} outputs and cross_entropy for classes; no sigmoid for counts or ratings"
        yield f"one sigmoid for targets 0, 1, 2, … of {classes} kinds", "error", cure
    if loss in REGRESSIVE:
        yield from _regressive(history, loss, activation)
    if loss == "nll_of_probability" or (loss == "nll" and _ever_negative(history)):
        yield "nll_loss of probabilities, not of their logarithm", "error", ENTROPY
    row_sum = value(history, TARGET_ROW_SUM)
    if loss == "cross_entropy" and row_sum == row_sum and abs(row_sum - 1) > 0.05:
        yield "cross_entropy, but several classes are true at once", "warning", BINARY
    if loss in ("bce", "bce_with_logits"):
        yield from _binary_entropy(history, loss)


def _regressive(history: History, loss: str, activation: str) -> Iterator[Problem]:
    squashed = activation in ("softmax", "sigmoid")
    if _one_hot(history):
        yield f"{loss} against one-hot classes", "warning", ENTROPY
    elif _binary(history) and activation == "sigmoid" and value(history, OUTPUT_WIDTH) > 1:
        yield f"{loss} of a sigmoid against bits: labels, or a reconstruction?", "note", BINARY
    elif _binary(history) and squashed:
        yield f"{loss} of a {activation} against labels of 0 and 1", "warning", BINARY
    elif value(history, TARGET_IS_INDEX) == 1 and value(history, TARGET_DISTINCT) > 2:
        yield f"{loss} against class numbers", "warning", ENTROPY
    elif _class_numbers(history):
        yield f"{loss} against whole numbers: classes, or ratings?", "note", ENTROPY


def _binary_entropy(history: History, loss: str) -> Iterator[Problem]:
    if value(history, TARGET_LOW) < 0 or value(history, TARGET_HIGH) > 1:
        cure = "bring the targets to 0 and 1, or use mse_loss for real numbers"
        yield f"{loss}, but targets are not between 0 and 1", "error", cure
    elif loss == "bce_with_logits" and kind(history, LOSS_INPUT) == "softmax":
        yield "binary cross-entropy with logits after a softmax", "warning", ENTROPY
    elif _one_hot(history):
        yield f"{loss} on classes that exclude each other", "note", ENTROPY


def _one_hot(history: History) -> bool:
    return value(history, TARGET_ROW_SUM) == 1 and value(history, TARGET_DISTINCT) == 2


def _binary(history: History) -> bool:
    low, high = value(history, TARGET_LOW), value(history, TARGET_HIGH)
    return value(history, TARGET_DISTINCT) <= 2 and low in (0, 1) and high in (0, 1)


def _class_numbers(history: History) -> bool:
    distinct = value(history, TARGET_DISTINCT)
    whole = value(history, TARGET_INTEGER) == 1 and value(history, TARGET_LOW) == 0
    return whole and 3 <= distinct <= 20 and value(history, TARGET_HIGH) == distinct - 1


def _ever_negative(history: History) -> bool:
    losses = curve(history, LOSS).values
    return bool(len(losses)) and bool((losses < 0).mean() > 0.5)
