from thalweg.diagnosis.evidence import curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import SHARPNESS, SHARPNESS_RATIO


@rule("edge-of-stability", stage="optimisation", needs=(SHARPNESS, SHARPNESS_RATIO))
def edge_of_stability(
    history: History, *, near: float = 0.9, beyond: float = 1.5
) -> Finding | None:
    """The curvature has risen to the largest that the step size allows.

    Why it matters: at 2/η the loss falls unevenly and the step size alone decides how sharp the
    minimum may be. It is no fault by itself: full-batch descent settles there. Far beyond it the
    steps throw the weights out of their valley.

    Evidence: λmax as the optimizer feels it, over 2/η (momentum and Adam: their own thresholds).
    Threshold: a note from 0.9 at the last two readings; a warning from 1.5.
    False alarms: λmax is of a sample of the data, a few percent too large; small batches keep the
    ratio below 1 in a healthy training.
    Convicted by: at half the learning rate the loss falls evenly.
    Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of
    stability"; Cohen et al. 2022 for Adam.
    """
    ratios = curve(history, SHARPNESS_RATIO).values[-2:]
    if len(ratios) < 2 or not min(ratios) >= near:
        return None
    ratio, top = float(ratios[-1]), curve(history, SHARPNESS).values[-1:]
    return Finding(
        severity="warning" if min(ratios) >= beyond else "note",
        summary=f"the sharpness stands at {number(ratio)} times what the step size can stand",
        evidence={"ratio": ratio, "sharpness": float(top[0]) if len(top) else float("nan")},
        prescriptions=(
            Prescription(
                change=f"divide the learning rate by {max(2.0, ratio):.1g}, or warm it up longer",
                expect="a ratio below 1 at the next readings, and a loss that falls evenly",
            ),
        ),
    )
