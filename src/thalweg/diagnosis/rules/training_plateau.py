import numpy as np

from thalweg.diagnosis.evidence import (
    Curve,
    curve,
    finite_values,
    gradient_norms,
    latest,
    number,
    share_of_chance,
    slope,
    value,
)
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BASELINE_ACCURACY, LOSS, NUM_CLASSES, TRAIN_ACCURACY


@rule(
    "training-plateau",
    stage="optimisation",
    needs=(LOSS, NUM_CLASSES),
    symptom=True,
)
def training_plateau(history: History, *, high: float = 0.6, least: int = 100) -> Finding | None:
    """The training loss fell and then stood still, far above zero.

    Why it matters: what holds it decides the cure: a saddle (wait or perturb), the noise of the
    batches (decay the rate), a model too small (enlarge it), or labels that cannot be learned.

    Evidence: the slope of the loss over the last half with its standard error; the late gradient
    norm as a share of the early one, which is nearly zero at a critical point; and the held-out
    accuracy of nearest neighbours and of a linear classifier.
    Threshold: a slope whose two standard errors cover zero and that promises less than 2 % in as
    many steps again, at a level above 0.6 of chance, after a fall. A warning if one of the simple
    classifiers beats the model's training accuracy by 2 points; else a note, since the noise of
    the data may set that floor.
    False alarms: as a note, data whose noise sets that floor.
    Convicted by: a tenth of the rate lowers it (noise floor); a step along negative curvature does
    (saddle); neither, but a larger model does (bias).
    Source: Dauphin et al. 2014, "Identifying and attacking the saddle point problem".
    """
    losses = curve(history, LOSS)
    level = share_of_chance(history)
    if len(losses) < least or not level > high or level > 1.2:
        return None
    half = len(losses) // 2
    late = Curve(losses.steps[half:], losses.values[half:])
    rate, error = slope(late)
    end, start = float(np.mean(late.values)), float(np.mean(losses.head(0.02, 3)))
    still = abs(rate) < 2 * error and -rate * half < 0.02 * end
    if not still or end > 0.95 * start:
        return None
    own, simple = value(history, TRAIN_ACCURACY), latest(history, BASELINE_ACCURACY)
    better = any(simple.get(n, 0.0) > own + 0.02 for n in ("nearest neighbours", "linear"))
    return Finding(
        severity="warning" if better else "note",
        summary=f"the loss stands at {number(end)}, {level:.0%} of chance, since step "
        f"{late.steps[0]:.0f}",
        where=f"step {late.steps[0]:.0f}",
        evidence=finite_values(
            {
                "level": end,
                "share of chance": level,
                "slope a step": rate,
                "gradient norm, late / early": _late_over_early_norm(history),
            }
        ),
        prescriptions=(
            Prescription(
                change="divide the learning rate by ten for a hundred steps; if that changes "
                "nothing, use a wider model",
                expect="one of the two brings the loss down",
            ),
        ),
    )


def _late_over_early_norm(history: History) -> float:
    """Late over early gradient norm; NaN with fewer than four readings."""
    norms = gradient_norms(history)
    if len(norms) < 4:
        return float("nan")
    return float(np.median(norms[-len(norms) // 2 :]) / np.median(norms[: len(norms) // 4]))
