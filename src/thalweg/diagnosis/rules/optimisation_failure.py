from math import sqrt

from thalweg.diagnosis.evidence import latest, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BASELINE_ACCURACY, LAYERS, TRAIN_ACCURACY


@rule(
    "optimisation-failure",
    stage="optimisation",
    needs=(TRAIN_ACCURACY, BASELINE_ACCURACY, LAYERS),
    explains=("underfitting", "training-plateau"),
    symptom=True,
)
def optimisation_failure(
    history: History, *, margin: float = 0.05, deep: int = 8
) -> Finding | None:
    """A deep model fits its training samples worse than a linear one fits held-out samples.

    Why it matters: the deep model contains the linear one. If it does worse, it is not too small;
    the optimiser does not find what is there.

    Evidence: training accuracy in eval mode; held-out accuracy of linear least squares; the number
    of layers.
    Threshold: 5 points and three standard errors below, with eight layers or more. Shallower models
    that do so are reported as underfitting.
    False alarms: a narrow layer in between, which a linear model does not have.
    Convicted by: a smaller model of the same kind reaches a lower training loss.
    Source: He et al. 2016, "Deep residual learning", §1 (the degradation problem).
    """
    own, scores = value(history, TRAIN_ACCURACY), latest(history, BASELINE_ACCURACY)
    theirs, count = scores.get("linear", 0.0), scores.get("samples", 0.0)
    layers = value(history, LAYERS)
    if count < 100 or not layers >= deep:
        return None
    error = sqrt(max(theirs * (1 - theirs), 0.01) / count)
    if not own < theirs - max(margin, 3 * error):
        return None
    return Finding(
        severity="warning",
        summary=f"{layers:.0f} layers get {own:.0%} of their training samples right; one linear "
        f"layer gets {theirs:.0%} of held-out ones",
        evidence={"training accuracy": own, "linear": theirs, "layers": layers},
        prescriptions=(
            Prescription(
                change="add skip connections and normalisation, or use fewer layers",
                expect="a training accuracy above the linear model's",
            ),
        ),
    )
