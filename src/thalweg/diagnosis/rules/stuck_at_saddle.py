from thalweg.diagnosis.evidence import number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import ESCAPE_GAIN, SADDLE_CURVATURE


@rule("stuck-at-saddle", stage="optimisation", needs=(SADDLE_CURVATURE, ESCAPE_GAIN))
def stuck_at_saddle(history: History, *, worth: float = 0.05) -> Finding | None:
    """Training stands on a saddle: the gradient is gone, and yet there is a way down.

    Why it matters: it looks like convergence. The gradient cannot leave along a direction in which
    it has no part; one step along the negative curvature can.

    Evidence: curvature along the most negative direction, measured again on samples that did not
    choose it (its upper limit), and the loss that one step along it gained on a copy.
    Threshold: an upper limit below zero, and 0.05 of the loss gained.
    False alarms: a pause on the way; many nets cross saddles without help.
    Convicted by: the step itself, taken on a copy, lowers the loss.
    Source: Dauphin et al. 2014, "Identifying and attacking the saddle point problem"; Jin et al.
    2017, "How to escape saddle points efficiently".
    """
    curvature, gain = value(history, SADDLE_CURVATURE), value(history, ESCAPE_GAIN)
    if not (curvature < 0 and gain > worth):
        return None
    return Finding(
        severity="warning",
        summary=f"the weights stand on a saddle: one step along curvature {number(curvature)} "
        f"gains {gain:.0%} of the loss",
        evidence={"curvature, at most": curvature, "share of the loss gained": gain},
        prescriptions=(
            Prescription(
                change="take that step (thalweg.critical_point(...).escape.direction), add noise "
                "to the weights once, or start from another random initialisation",
                expect=f"a loss lower by {gain:.0%} within a few steps",
            ),
        ),
    )
