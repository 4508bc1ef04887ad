from math import isfinite

from thalweg.diagnosis.evidence import number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS, RISKY_OPERATION, WEIGHT_NOT_FINITE, ZERO_EPS
from thalweg.wording import some


@rule(
    "infinite-slope",
    stage="output",
    needs=(LOSS, WEIGHT_NOT_FINITE, RISKY_OPERATION),
    explains=("loss-not-finite", "learning-rate-too-high", "exploding-gradients", "unstable-log"),
    after_nan=True,
)
def infinite_slope(history: History, *, leap: float = 10.0) -> Finding | None:
    """The gradient became NaN while the loss was finite: an operation's slope is infinite.

    Why it matters: a square root has an infinite slope at 0, and the arc cosine at 1. Infinity
    times zero is NaN, and one update spreads it to every weight. `torch.where` does not help: the
    branch that was not chosen is differentiated too, and gives NaN times zero.

    Evidence: the first update after which a weight is not finite, the loss of that very update, and
    the operations of its graph.
    Threshold: exact: a finite loss, of at most ten times the first, a weight that is NaN after its
    update, and such an operation, or a `where` beside a logarithm, a division or an exponential.
    One whose input nothing keeps away from the edge (a number added, a clamp) is named first.
    False alarms: none known; it speaks only of runs that became NaN.
    Convicted by: the same batch, with 1e-8 added under the root, gives a finite gradient.
    Source: PyTorch documentation, "Autograd mechanics", gradients of non-differentiable functions.
    """
    losses, broken = history.series(LOSS), history.series(WEIGHT_NOT_FINITE)
    step = next((step for step, flag in sorted(broken.items()) if flag == 1), None)
    if step is None or not losses or value(history, ZERO_EPS) > 0:
        return None
    loss, first = losses.get(step, float("nan")), losses[min(losses)]
    if not isfinite(loss) or not abs(loss) <= leap * max(abs(first), 1.0):
        return None
    hidden = _of_kind(history, "unbounded") if _of_kind(history, "hiding") else []
    steep = _of_kind(history, "steep") or ([] if hidden else _of_kind(history, "guarded"))
    if not steep and not hidden:
        return None
    return _finding(steep, hidden, step=step, loss=loss)


def _of_kind(history: History, kind: str) -> list[str]:
    places = [place.partition(": ") for place in history.by_place(RISKY_OPERATION)]
    return sorted(name for of, _, name in places if of == kind)


def _finding(steep: list[str], hidden: list[str], *, step: int, loss: float) -> Finding:
    names = steep or hidden
    cause = (
        f"the slope of {some(names)} is infinite where its input reaches the edge (0 for a root)"
        if steep
        else f"torch.where hides what {some(names)} gives, but not its gradient"
    )
    return Finding(
        severity="error",
        summary=f"at step {step} the loss was finite ({number(loss)}) and its gradient was not: "
        f"it began in the backward pass; {cause}",
        where=names[0],
        evidence={"step": float(step), "loss at that step": loss},
        prescriptions=(
            Prescription(
                change="add a small number or clamp before it: sqrt(x + 1e-8), x.clamp(min=1e-8)"
                if steep
                else "choose safe inputs before the operation, not after it: "
                "log(where(mask, x, 1))",
                expect="the gradient of the same batch is finite",
            ),
        ),
    )
