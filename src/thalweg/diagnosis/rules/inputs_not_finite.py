from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import INPUT_NOT_FINITE


@rule(
    "inputs-not-finite",
    stage="data",
    needs=(INPUT_NOT_FINITE,),
    explains=("loss-not-finite", "learning-rate-too-high", "unstable-log"),
)
def inputs_not_finite(history: History) -> Finding | None:
    """Some inputs are NaN or infinite.

    Why it matters: one such number makes the loss NaN, its gradient NaN, and after one update
    every weight NaN.

    Evidence: the share of input numbers that are not finite, among the samples seen.
    Threshold: exact.
    False alarms: a model that masks NaN itself.
    Convicted by: the batch without these samples has a finite loss.
    Source: IEEE 754.
    """
    share = value(history, INPUT_NOT_FINITE)
    if not share > 0:
        return None
    return Finding(
        severity="error",
        summary=f"{share:.2%} of the input numbers are NaN or infinite",
        evidence={"share": share},
        prescriptions=(
            Prescription(
                change="drop these samples, or fill the gaps with the feature's training mean",
                expect="every loss is finite",
            ),
        ),
    )
