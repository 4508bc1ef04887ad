import numpy as np

from thalweg.diagnosis.evidence import Values, curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import CLASS_IN_BATCH, CLASS_WEIGHT


@rule(
    "class-weights-misplaced",
    stage="data",
    needs=(CLASS_WEIGHT, CLASS_IN_BATCH),
    explains=("class-imbalance", "metric-disagrees-with-loss", "underfitting"),
)
def class_weights_misplaced(
    history: History, *, least: float = 20.0, spread: float = 3.0
) -> Finding | None:
    """The loss weights its classes by their frequency, or by the frequencies of other classes.

    Why it matters: weights in the order of a Counter, of sorted names or of another encoding go to
    the wrong classes; counts in place of their inverse, or negatives over positives the wrong way
    round in pos_weight, make the rare class rarer still.

    Evidence: the weight of each class in the gradient, exact for a plain cross-entropy, against the
    targets of each class in the batches at which it was read.
    Threshold: weights and frequencies that both span a factor of 3, of 20 targets each. Inverted:
    the weights rise with the frequencies (a slope of 0.7 to 1.3 of their logarithms, a correlation
    of 0.95; of two classes the ratio within a third). Misplaced: of three classes or more, the
    sorted weights are the inverse of the sorted frequencies within a third, the weights as they
    stand are not.
    False alarms: weights that favour a frequent class on purpose and happen to be its frequency.
    Convicted by: with the weights the other way round, recall of the rare classes rises.
    Source: King and Zeng 2001, "Logistic regression in rare events data" (weights 1 / frequency).
    """
    weights, counts = _weights_and_counts(history, least)
    if len(weights) < 2 or min(np.ptp(np.log(weights)), np.ptp(np.log(counts))) < np.log(spread):
        return None
    if _is_proportional(weights, counts):
        return _finding(
            weights,
            counts,
            how="they grow with the frequency",
            cure="weight by the inverse frequency: total / (classes × count); pos_weight is "
            "negatives / positives",
        )
    if _is_other_order(weights, counts):
        return _finding(
            weights,
            counts,
            how="they are inverse frequencies, of other classes",
            cure="build the weights in the order of the class numbers: "
            "[1 / count[c] for c in range(num_classes)]",
        )
    return None


def _weights_and_counts(history: History, least: float) -> tuple[Values, Values]:
    """The median weights and the targets of the classes with enough of them; of two only if all."""
    pairs = []
    num_seen = 0
    for name in history.by_place(CLASS_WEIGHT):
        weights = curve(history, CLASS_WEIGHT, name).values
        weights = weights[weights > 0]  # 0 where it could not be read
        count = float(curve(history, CLASS_IN_BATCH, name).values.sum())
        num_seen += len(weights) > 0
        if len(weights) and least <= count < np.inf:
            pairs.append((float(np.median(weights)), count))
    if len(pairs) < min(3, num_seen):
        pairs = []  # two of many classes are like frequencies too easily
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _is_proportional(weights: Values, counts: Values) -> bool:
    w, n = np.log(weights), np.log(counts)
    if len(w) == 2:
        return bool(abs((w[1] - w[0]) - (n[1] - n[0])) < np.log(4 / 3))
    slope = float(np.polyfit(n, w, 1)[0])
    return 0.7 < slope < 1.3 and float(np.corrcoef(n, w)[0, 1]) > 0.95


def _is_other_order(weights: Values, counts: Values) -> bool:
    if len(weights) < 3:
        return False
    sorted_products = np.log(np.sort(weights)[::-1] * np.sort(counts))
    products = np.log(weights * counts)
    within = np.abs(sorted_products - np.median(sorted_products)).max() < np.log(4 / 3)
    return bool(within and np.ptp(products) > np.log(3))


def _finding(weights: Values, counts: Values, *, how: str, cure: str) -> Finding:
    common = int(np.argmax(counts))
    return Finding(
        severity="warning",
        summary=f"the class weights of the loss do not balance the classes: {how}; the commonest "
        f"class has {number(float(weights[common] / weights.min()))} times the lowest weight",
        evidence={
            "weight of the commonest, against the lowest": float(weights[common] / weights.min()),
            "largest over smallest frequency": float(counts.max() / counts.min()),
        },
        prescriptions=(Prescription(change=cure, expect="weight × frequency is alike for all"),),
    )
