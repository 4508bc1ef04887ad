from thalweg.diagnosis.evidence import curve, kind, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BARE_LOSS, LOSS, LOSS_INPUT, LOSS_KIND

NEVER_NEGATIVE = {
    "cross_entropy": "targets that are probabilities must lie between 0 and 1",
    "nll": "nll_loss takes log-probabilities: pass log_softmax(scores), or use cross_entropy",
    "kl_div": "kl_div takes log-probabilities as its first argument: pass log_softmax(scores)",
    "bce": "targets must lie between 0 and 1",
    "bce_with_logits": "targets must lie between 0 and 1",
    "ctc": "ctc_loss takes log-probabilities, and targets without the blank's number: shift the "
    "symbols, or name another blank=",
}


@rule(
    "impossible-loss",
    stage="output",
    needs=(LOSS, LOSS_KIND, BARE_LOSS),
    explains=(
        "initial-loss-above-chance",
        "label-encoding-differs",
        "loss-does-not-fit-task",
        "loss-not-falling",
        "metric-disagrees-with-loss",
        "output-ignores-inputs",
        "overfitting",
        "stopped-too-early",
        "underfitting",
    ),
)
def impossible_loss(history: History, *, rounding: float = 1e-3) -> Finding | None:
    """The loss has a value that this loss function cannot have: it is below zero.

    Why it matters: cross-entropy and the likelihood of a sequence are zero at best.
    Below zero, the function was given what it does not take: probabilities in place of their
    logarithms, targets outside of 0 to 1, the blank as a symbol. The network then lowers a number
    that means nothing.

    Evidence: the loss function as autograd's graph shows it, and the losses.
    Threshold: below zero by more than rounding (0.001), where the loss is that function alone.
    False alarms: none known.
    Convicted by: the function's documentation: its inputs are outside their range.
    Source: PyTorch documentation, `nn.NLLLoss` (log-probabilities), `nn.CTCLoss` (blank).
    """
    function, losses = kind(history, LOSS_KIND), curve(history, LOSS).values
    if function not in NEVER_NEGATIVE or value(history, BARE_LOSS) != 1 or not len(losses):
        return None
    lowest = float(losses.min())
    if not lowest < -rounding:
        return None
    applied = kind(history, LOSS_INPUT)
    return Finding(
        severity="error",
        summary=f"the loss fell to {number(lowest)}, which {function} cannot be"
        + (f"; it is applied to the output of {applied}" if applied == "softmax" else ""),
        evidence={"lowest loss": lowest},
        prescriptions=(
            Prescription(change=NEVER_NEGATIVE[function], expect="a loss that is never negative"),
        ),
    )
