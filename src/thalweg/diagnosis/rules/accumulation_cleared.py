from thalweg.diagnosis.evidence import curve, latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BACKWARD_PASSES, CLEARED_PASSES

LEAST = 3  # readings


@rule(
    "accumulation-cleared",
    stage="wiring",
    needs=(CLEARED_PASSES,),
    explains=("learning-rate-too-low", "underfitting", "stopped-too-early", "loss-not-falling"),
)
def accumulation_cleared(history: History) -> Finding | None:
    """Gradients of several batches are to add up, and each is cleared before the next arrives.

    Why it matters: with `zero_grad` before every `backward`, an update of eight micro-batches is
    that of the last one alone, and where the loss is divided by their number, an eighth of it.

    Evidence: the gradient that a weight holds when the next backward pass of the same update
    arrives, with other inputs and unchanged weights.
    Threshold: exact: none at all, at three readings or more.
    False alarms: gradients that a loop takes away itself before it clears them, each of another
    batch. Silent for several passes over the same inputs, where weights change in between, and for
    a loss that goes through another network: a discriminator's is cleared from a generator.
    Convicted by: the gradient at the update is that of the last micro-batch alone.
    Source: PyTorch documentation, "Automatic Mixed Precision examples", gradient accumulation.
    """
    shares = curve(history, CLEARED_PASSES).values
    if len(shares) < LEAST or not (shares == 1).all():
        return None
    return Finding(
        severity="error",
        summary="the gradient is cleared between the backward passes of one update: all but the "
        "last one's are lost",
        evidence={"passes that met no gradient": 1.0, **_passes(history)},
        prescriptions=(
            Prescription(
                change="call zero_grad once an update, after optimizer.step(), and not before each "
                "backward()",
                expect="updates of all micro-batches; the loss falls faster",
            ),
        ),
    )


def _passes(history: History) -> dict[str, float]:
    passes = latest(history, BACKWARD_PASSES).get("")
    return {} if passes is None else {"backward passes an update": passes}
