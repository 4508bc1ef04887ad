from thalweg.diagnosis.evidence import curve, latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    GRADIENT_NORM,
    GRADIENT_PRESENT,
    HELD,
    MODULE_CALLED,
    OUTPUT_HIGH,
    OUTPUT_LOW,
)
from thalweg.wording import some


@rule(
    "gradient-never-arrives",
    stage="wiring",
    needs=(HELD,),
    explains=("learning-rate-too-low", "vanishing-gradients"),
)
def gradient_never_arrives(history: History) -> Finding | None:
    """Weights that take part in the forward pass have no gradient when the optimizer steps.

    Why it matters: the graph is cut between them and the loss (`detach`, `.data`, `.item`, a round
    trip through numpy, `no_grad`), or `zero_grad` comes between `backward` and `step`, or `step`
    comes before `backward`. The update is then zero, without any error.

    Evidence: for each trainable weight whose module ran, whether a gradient reached it at any
    reading; and the gradient that the optimizer saw.
    Threshold: exact: none at all of three readings or more. A model whose output is one constant
    has a gradient of zero for another reason and is not reported.
    False alarms: a branch detached on purpose (a probe, a target network left trainable).
    Convicted by: one backward pass on a copy lists which weights receive any gradient.
    Source: PyTorch documentation, "Autograd mechanics"; exact.
    """
    held = [name for name, flag in latest(history, HELD).items() if flag == 1]
    present = history.by_place(GRADIENT_PRESENT)
    called = latest(history, MODULE_CALLED)
    cut = [
        name
        for name in held
        if name in present
        and len(present[name]) >= 3
        and max(present[name].values()) == 0
        and called.get(name.rpartition(".")[0]) == 1
    ]
    if cut:
        return _finding(cut, len(held), "no gradient ever reaches")
    if _constant_output(history):
        return None  # nothing flows through a dead output, however well it is wired
    unseen = [name for name in held if not _stepped_with_gradient(history, name)]
    if len(unseen) == len(held) and held and len(_readings(history)) >= 3:
        return _finding(unseen, len(held), "the optimizer always steps without any gradient for")
    return None


def _stepped_with_gradient(history: History, name: str) -> bool:
    norms = curve(history, GRADIENT_NORM, name).values
    return bool(len(norms)) and float(norms.max()) > 0


def _constant_output(history: History) -> bool:
    """Return whether the model gave the same number for every sample, at every reading."""
    low, high = curve(history, OUTPUT_LOW).values, curve(history, OUTPUT_HIGH).values
    return len(low) == len(high) > 0 and bool((low == high).all())


def _readings(history: History) -> set[int]:
    return {step for series in history.by_place(HELD).values() for step in series}


def _finding(cut: list[str], held: int, what: str) -> Finding:
    return Finding(
        severity="error",
        summary=f"{what} {some(cut)}",
        where=cut[0],
        evidence={"weights without gradient": float(len(cut)), "of": float(held)},
        prescriptions=(
            Prescription(
                change="look between these weights and the loss for detach(), .data, .item(), "
                "numpy or no_grad; and check the order zero_grad, backward, step",
                expect="every weight that took part has a gradient at the update",
            ),
        ),
    )
