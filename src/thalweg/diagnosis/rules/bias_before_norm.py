from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LAYERS, USELESS_BIAS
from thalweg.wording import some


@rule("bias-before-norm", stage="signal", needs=(LAYERS,))
def bias_before_norm(history: History) -> Finding | None:
    """A bias is added right before a batch norm, which subtracts it again.

    Why it matters: it costs memory and time and can learn nothing. It harms nothing else.

    Evidence: the operations of a forward pass.
    Threshold: exact; always a note.
    False alarms: none known.
    Convicted by: the bias's gradient is zero up to rounding.
    Source: Ioffe and Szegedy 2015, "Batch normalization", §3.2.
    """
    modules = list(history.by_place(USELESS_BIAS))
    if not modules:
        return None
    return Finding(
        severity="note",
        summary=f"the bias of {some(modules)} is subtracted again by the batch norm after it",
        where=modules[0],
        evidence={"biases": float(len(modules))},
        prescriptions=(
            Prescription(change="make the layer with bias=False", expect="the same losses"),
        ),
    )
