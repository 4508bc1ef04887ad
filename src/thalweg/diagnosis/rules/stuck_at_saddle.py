from thalweg.diagnosis.evidence import number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import ESCAPE_GAIN, SADDLE_CURVATURE


@rule("stuck-at-saddle", stage="optimisation", needs=(SADDLE_CURVATURE, ESCAPE_GAIN))
def stuck_at_saddle(history: History, *, worth: float = 0.05) -> Finding | None:
    """Training is stuck at a saddle: the gradient is nearly zero, but the loss can still fall.

    Why it matters: it looks like convergence. Gradient descent cannot leave along a direction in
    which the gradient is zero; one step along the negative curvature can.

    Evidence: curvature along the most negative direction, measured again on samples other than
    those that chose it (its upper limit), and the fall of the loss after one step on a copy.
    Threshold: an upper limit below zero, and 0.05 of the loss gained.
    False alarms: a pause on the way; many nets cross saddles without help.
    Convicted by: that step, on a copy, lowers the loss.
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
