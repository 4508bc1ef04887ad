from math import isfinite

from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS, WEIGHT_NOT_FINITE, ZERO_EPS


@rule(
    "eps-rounds-to-zero",
    stage="wiring",
    needs=(ZERO_EPS, LOSS),
    explains=("loss-not-finite", "learning-rate-too-high", "exploding-gradients", "underfitting"),
    after_nan=True,
)
def eps_rounds_to_zero(history: History) -> Finding | None:
    """The optimizer's eps is 0 in half precision, so that it divides 0 by 0.

    Why it matters: Adam divides by √v + eps. In float16 the smallest number is 6e-8, so the usual
    eps of 1e-8 is 0, and v = g² is 0 for every gradient below 2e-4. The first update with a small
    gradient is then 0/0, and every weight is NaN.

    Evidence: the eps of each group rounded to the type of its weights; whether the run is finite.
    Threshold: exact; an error where the run became NaN, else a note.
    False alarms: kernels that compute in single precision whatever the weights' type: a note only,
    as long as the run is finite.
    Convicted by: the same update with eps=1e-4 is finite.
    Source: Micikevicius et al. 2018, "Mixed precision training" (master weights in float32).
    """
    weights = value(history, ZERO_EPS)
    if not weights > 0:
        return None
    losses = history.series(LOSS).values()
    broke = value(history, WEIGHT_NOT_FINITE) == 1 or not all(map(isfinite, losses))
    return Finding(
        severity="error" if broke else "note",
        summary=f"the optimizer's eps is 0 in the type of {weights:.0f} half-precision weights"
        + (": its update divided 0 by 0, and the weights became NaN" if broke else ""),
        evidence={"weights": weights},
        prescriptions=(
            Prescription(
                change="keep the weights in float32 and compute in half precision with "
                "torch.autocast (and torch.amp.GradScaler for float16); else set eps=1e-4",
                expect="every update is finite",
            ),
        ),
    )
