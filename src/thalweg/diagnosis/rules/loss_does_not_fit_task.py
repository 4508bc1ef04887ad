from collections.abc import Iterator

from thalweg.diagnosis.evidence import curve, kind, latest, value
from thalweg.diagnosis.rule import Finding, Prescription, Severity, rule
from thalweg.record import History
from thalweg.record.quantities import (
    ACCURACY,
    LOSS,
    LOSS_ARGUMENT,
    LOSS_INPUT,
    LOSS_KIND,
    NUM_CLASSES,
    OUTPUT_ACTIVATION,
    OUTPUT_WIDTH,
    RECONSTRUCTED,
    TARGET_DISTINCT,
    TARGET_HIGH,
    TARGET_INTEGER,
    TARGET_IS_INDEX,
    TARGET_LOW,
    TARGET_ROW_SUM,
    TARGETS_COMPARED,
    VAL_ACCURACY,
)

LEAP = 50.0  # times the first loss
BEYOND = 0.01  # of 0…1; less is rounding, or an interpolated picture
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
    distinct values of the targets that the loss was seen to compare: labels that reproduce its
    value or explain its gradient, or what the gradient itself shows. Labels that a loader yields
    and the loss does not compare (a GAN's digits) are no evidence.
    Threshold: exact combinations: a function that takes log-probabilities (nll_loss, kl_div) or
    probabilities (binary cross-entropy) and what the graph shows before it; rows of 0 and 1 whose
    sum is not 1 for several classes at once; a binary cross-entropy on one of many classes is a
    note, since it is also used on purpose, and so are whole numbers under a loss of differences,
    unless somebody counts classes or classifies right and wrong: they may be ratings or counts.
    False alarms: the Brier score (squared error of a softmax) on purpose.
    Convicted by: short runs with each loss, compared by the metric.
    Source: Golik, Doetsch and Ney 2013, "Cross-entropy vs. squared error training"; Wightman,
    Touvron and Jégou 2021, "ResNet strikes back", for the binary loss on classes.
    """
    loss, activation = kind(history, LOSS_KIND), kind(history, OUTPUT_ACTIVATION)
    every = [*_argument_problems(history)]
    if len(history.by_place(LOSS_KIND)) == 1:  # of tasks by turns, targets are not told apart
        every += _problems(history, loss, activation)
    for problem, severity, cure in sorted(every, key=lambda each: each[1] == "note"):
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
LOG_PROBABILITIES = "pass log-probabilities, F.log_softmax(scores, dim=1), as its first argument"
CLASSES_FIRST = "normalise the scores over the classes: log_softmax(dim=1), or use cross_entropy"
ARGUMENTS: dict[str, Problem] = {  # exact combinations, as the graph shows them
    "cross_entropy: another axis": (
        "the log_softmax before nll_loss runs over another dimension than that of the classes",
        "error",
        CLASSES_FIRST,
    ),
    "nll: softmax": ("nll_loss of probabilities, not of their logarithm", "error", ENTROPY),
    "nll: sigmoid": ("nll_loss of a sigmoid, not of log-probabilities", "error", ENTROPY),
    "kl_div: softmax": (
        "kl_div of probabilities, not of their logarithm",
        "error",
        LOG_PROBABILITIES,
    ),
    "kl_div: sigmoid": (
        "kl_div of a sigmoid, not of log-probabilities",
        "error",
        LOG_PROBABILITIES,
    ),
    "kl_div: relu": (
        "kl_div of what a ReLU made, no log-probabilities",
        "error",
        LOG_PROBABILITIES,
    ),
    "kl_div: tanh": ("kl_div of a tanh, not of log-probabilities", "error", LOG_PROBABILITIES),
    "bce: tanh": ("binary cross-entropy of a tanh, whose outputs go below 0", "error", BINARY),
    "bce: relu": ("binary cross-entropy of what a ReLU made, beyond 1", "error", BINARY),
    "bce: clamped scores": (
        "binary cross-entropy of scores clamped into 0…1: no gradient outside",
        "warning",
        BINARY,
    ),
    "kl_div: averaged over the classes too": (
        "kl_div with reduction='mean' divides by the number of classes too",
        "note",
        "use reduction='batchmean', or raise the weight of this term as much",
    ),
}


def _problems(history: History, loss: str, activation: str) -> Iterator[Problem]:
    if activation == "sigmoid" and value(history, OUTPUT_WIDTH) == 1 and _class_numbers(history):
        classes = f"{value(history, TARGET_DISTINCT):.0f}"
        cure = f"{classes} outputs and cross_entropy for classes; no sigmoid for counts or ratings"
        yield f"one sigmoid for targets 0, 1, 2, … of {classes} kinds", "error", cure
    if loss in REGRESSIVE:
        yield from _regressive(history, loss, activation)
    if loss == "nll_of_probability" or (loss == "nll" and _ever_negative(history)):
        yield "nll_loss of probabilities, not of their logarithm", "error", ENTROPY
    if loss == "cross_entropy" and _multi_hot(history):
        yield "cross_entropy, but several classes are true at once", "warning", BINARY
    if loss in ("bce", "bce_with_logits"):
        yield from _binary_entropy(history, loss)


def _argument_problems(history: History) -> Iterator[Problem]:
    arguments = history.by_place(LOSS_ARGUMENT)
    yield from (problem for argument, problem in ARGUMENTS.items() if argument in arguments)


def _regressive(history: History, loss: str, activation: str) -> Iterator[Problem]:
    squashed = activation in ("softmax", "sigmoid")
    if _one_hot(history):
        yield f"{loss} against one-hot classes", "warning", ENTROPY
    elif _binary(history) and activation == "sigmoid" and value(history, OUTPUT_WIDTH) > 1:
        yield f"{loss} of a sigmoid against bits: labels, or a reconstruction?", "note", BINARY
    elif _binary(history) and squashed:
        yield f"{loss} of a {activation} against labels of 0 and 1", "warning", BINARY
    elif _choose_an_output(history):
        return
    elif value(history, TARGET_IS_INDEX) == 1 and value(history, TARGET_DISTINCT) > 2:
        severity: Severity = "warning" if _counts_classes(history) else "note"
        yield f"{loss} against class numbers", severity, ENTROPY
    elif _class_numbers(history):
        yield f"{loss} against whole numbers: classes, or ratings?", "note", ENTROPY


def _choose_an_output(history: History) -> bool:
    """True for an integer a sample beside several outputs, such as the action of an agent."""
    is_one = value(history, TARGET_IS_INDEX) == 1 and TARGET_ROW_SUM not in history
    return is_one and value(history, OUTPUT_WIDTH) > 1


def _binary_entropy(history: History, loss: str) -> Iterator[Problem]:
    if _leaves_unit_interval(history):
        cure = "bring the targets to 0 and 1, or use mse_loss for real numbers"
        yield f"{loss}, but targets are not between 0 and 1", "error", cure
    elif loss == "bce_with_logits" and kind(history, LOSS_INPUT) == "softmax":
        yield "binary cross-entropy with logits after a softmax", "warning", ENTROPY
    elif _one_hot(history):
        yield f"{loss} on classes that exclude each other", "note", ENTROPY


def _leaves_unit_interval(history: History) -> bool:
    """True if targets lie beyond 0…1 at the last reading before the loss leapt.

    From outputs that have run away, the gradient no longer shows the targets. Where none were
    seen, those of an autoencoder are its inputs.
    """
    ends = {} if TARGET_LOW in history else latest(history, RECONSTRUCTED)
    if ends.get("lowest", 0.0) < -BEYOND or ends.get("highest", 1.0) > 1 + BEYOND:
        return True
    losses = curve(history, LOSS)
    leaps = losses.steps[abs(losses.values) > LEAP * abs(losses.values[:1])]
    first = float(leaps[0]) if len(leaps) else float("inf")
    low, high = (curve(history, each).between(0, first - 1) for each in (TARGET_LOW, TARGET_HIGH))
    return bool((low.values[-1:] < 0).any() or (high.values[-1:] > 1).any())


def _multi_hot(history: History) -> bool:
    """True for rows of 0 and 1 that the loss takes for probabilities, and that do not sum to 1."""
    bits = value(history, TARGET_IS_INDEX) == 0 and value(history, TARGET_INTEGER) == 1
    return bits and _binary(history) and abs(value(history, TARGET_ROW_SUM) - 1) > 0.05


def _counts_classes(history: History) -> bool:
    """True if somebody passed in the number of classes, or logged an accuracy, of these labels."""
    others = value(history, TARGETS_COMPARED, "batch") == 0
    return not others and any(one in history for one in (NUM_CLASSES, VAL_ACCURACY, ACCURACY))


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
