from math import sqrt

from thalweg.diagnosis.evidence import descent_goes_on, expected_gain, latest, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BASELINE_ACCURACY, FROZEN_AT_RANDOM, TRAIN_ACCURACY


@rule(
    "underfitting",
    stage="generalisation",
    needs=(TRAIN_ACCURACY, BASELINE_ACCURACY),
    symptom=True,
)
def underfitting(history: History, *, margin: float = 0.05, falling: float = 0.1) -> Finding | None:
    """The model does worse on its own training samples than nearest neighbours on held-out ones.

    Why it matters: before anything about generalisation is worth asking, the model has to fit. If
    nothing in the optimisation explains it, the model is too small, too stiff, or looks at the
    wrong features.

    Evidence: training accuracy in eval mode; held-out accuracy of ten nearest neighbours on the
    same samples.
    Threshold: 5 points and three standard errors below; a note while the loss still falls by a
    tenth in a fifth of the steps, or fell from the middle third of the run to the last one by a
    quarter of its whole fall, since the run has then not shown yet what it can fit; and where
    weights are frozen, which keeps the model from fitting on purpose.
    False alarms: tasks that suit nearest neighbours.
    Convicted by: a model twice as wide gets a lower training loss.
    Source: Ng 2018, "Machine Learning Yearning", chapter 20 onward (avoidable bias).
    """
    own, scores = value(history, TRAIN_ACCURACY), latest(history, BASELINE_ACCURACY)
    theirs, count = scores.get("nearest neighbours", 0.0), scores.get("samples", 0.0)
    if count < 100:
        return None
    error = sqrt(max(theirs * (1 - theirs), 0.01) / count)
    if not own < theirs - max(margin, 3 * error):
        return None
    end, gain = expected_gain(history)
    frozen = bool(history.by_place(FROZEN_AT_RANDOM))
    unfinished = gain > falling * end > 0 or descent_goes_on(history)
    return Finding(
        severity="note" if frozen or unfinished else "warning",
        summary=f"the model gets {own:.0%} of its training samples right; nearest neighbours get "
        f"{theirs:.0%} of held-out ones",
        evidence={"training accuracy": own, "nearest neighbours": theirs},
        prescriptions=(
            Prescription(
                change=_change(frozen=frozen, unfinished=unfinished),
                expect="training accuracy above that of nearest neighbours",
            ),
        ),
    )


def _change(*, frozen: bool, unfinished: bool) -> str:
    if frozen:
        return "train the frozen weights too, at a tenth of the learning rate"
    if unfinished:
        return "train until the training loss is flat: it still falls"
    return "make the model wider (twice), and train until the training loss is flat"
