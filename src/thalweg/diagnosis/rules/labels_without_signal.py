from math import isfinite, nan, sqrt

import numpy as np

from thalweg.diagnosis.evidence import curve, latest, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BASELINE_ACCURACY, MEASURED_VAL_ACCURACY, VAL_ACCURACY


@rule(
    "labels-without-signal",
    stage="data",
    needs=(BASELINE_ACCURACY,),
    explains=(
        "overfitting",
        "underfitting",
        "training-plateau",
        "metric-disagrees-with-loss",
        "stopped-too-early",
        "optimisation-failure",
        "train-val-shift",
        "learning-rate-too-low",
    ),
)
def labels_without_signal(history: History) -> Finding | None:
    """The labels are unrelated to the inputs: no classifier does better than chance.

    Why it matters: a join, a sort or an index went wrong somewhere, and each sample carries
    another one's label. A large model still learns the training labels by heart.

    Evidence: held-out accuracy of nearest neighbours and of a linear classifier on the training
    samples, against always guessing the commonest class; and the model's validation accuracy.
    Threshold: all within three standard errors of chance, with 200 samples or more; silent where
    one class has four fifths of them, since sound classifiers are hardly better than chance there.
    False alarms: a task that only a trained model can do (parity); then its validation accuracy
    is above chance as soon as it learns.
    Convicted by: shuffled labels are learned exactly as fast and generalise exactly as badly.
    Source: Zhang et al. 2017, "Understanding deep learning requires rethinking generalization".
    """
    scores = latest(history, BASELINE_ACCURACY)
    count, chance = scores.get("samples", 0.0), scores.get("chance", 1.0)
    if count < 200 or not 0 < chance < 0.8:
        return None
    margin = 3 * sqrt(chance * (1 - chance) / count)
    own = _val_accuracy(history)
    neighbours, linear = scores.get("nearest neighbours", 1.0), scores.get("linear", 1.0)
    if not (neighbours < chance + margin and linear < chance + margin):
        return None
    if not own <= chance + 2 * margin + 0.05:
        return None
    return Finding(
        severity="error",
        summary=f"labels do not follow from inputs: neighbours get {neighbours:.0%} right, a "
        f"linear classifier {linear:.0%}, the model {own:.0%} on validation; chance is "
        f"{chance:.0%}",
        evidence={
            "neighbours": neighbours,
            "linear": linear,
            "model": own,
            "chance": chance,
        },
        prescriptions=(
            Prescription(
                change="check the step that brings inputs and labels together (join, sort, index, "
                "shuffle of one without the other): show ten samples with their labels",
                expect="nearest neighbours do better than chance",
            ),
        ),
    )


def _val_accuracy(history: History) -> float:
    """The model's late validation accuracy; NaN without any validation.

    The median of the last third: the best of many validations of a guessing model is above chance.
    """
    logged = curve(history, VAL_ACCURACY)
    late = [float(np.median(logged.tail(1 / 3)))] if len(logged) else []
    scores = [*late, value(history, MEASURED_VAL_ACCURACY)]
    return max((score for score in scores if isfinite(score)), default=nan)
