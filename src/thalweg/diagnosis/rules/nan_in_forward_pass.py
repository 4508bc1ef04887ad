from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS, NAN_ORIGIN

CURES = {
    "softmax": "let every row of the attention mask keep at least one key: drop or fill samples "
    "that are empty, and check the mask's sign (True means masked in key_padding_mask)",
    "log": "clamp before the logarithm: log(x.clamp(min=1e-8))",
    "div": "add a small number to the divisor, or clamp it: sums over an empty mask are 0",
    "sqrt": "clamp before the root: sqrt(x.clamp(min=1e-8))",
    "pow": "clamp before the power: a negative number has no real root",
}


@rule(
    "nan-in-forward-pass",
    stage="output",
    needs=(LOSS, NAN_ORIGIN),
    explains=("loss-not-finite", "learning-rate-too-high", "exploding-gradients", "infinite-slope"),
    after_nan=True,
)
def nan_in_forward_pass(history: History) -> Finding | None:
    """An operation inside the model makes NaN from finite inputs and finite weights.

    Why it matters: the cause is in the data or the structure, not in the training: a row of
    attention that is masked entirely, a mean over no element, the logarithm of a negative number.
    No learning rate cures it.

    Evidence: a pass of a copy of the model with fresh weights, on samples of the training, after a
    run that became NaN; the first operation whose output is NaN where none of its inputs is.
    Threshold: exact.
    False alarms: none known; it speaks only of runs whose loss became NaN or infinite.
    Convicted by: the same samples without the ones whose rows are NaN give a finite loss.
    Source: pytorch/pytorch issue 41508 (attention rows that are masked entirely).
    """
    origins = {place: share for place, share in latest(history, NAN_ORIGIN).items() if place}
    if not origins:
        return None
    place, share = next(iter(origins.items()))
    module, _, operation = place.partition(": ")
    cure = next((text for name, text in CURES.items() if name in operation), None)
    return Finding(
        severity="error",
        summary=f"{operation} in {module or 'the model'} makes the first NaN, in {share:.0%} of "
        "its rows, from finite inputs and weights: it begins in the forward pass",
        where=module,
        evidence={"share of rows": share},
        prescriptions=(
            Prescription(
                change=cure
                or f"look at the inputs of {operation} for the samples whose outputs "
                "are NaN, and clamp or mask them before it",
                expect="the outputs of the same samples are finite",
            ),
        ),
    )
