import numpy as np

from thalweg.diagnosis.evidence import (
    curve,
    gradient_norms,
    largest_movement,
    number,
    share_of_chance,
    value,
)
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    GRADIENT_NORM,
    LOSS,
    SCALE_INVARIANT,
    SCALER_SCALE,
    UPDATE_RATIO,
    WEIGHTS,
)


@rule(
    "clipping-too-tight",
    stage="optimisation",
    needs=(LOSS, GRADIENT_NORM, UPDATE_RATIO),
    explains=(
        "learning-rate-too-low",
        "loss-not-falling",
        "underfitting",
        "training-plateau",
        "optimisation-failure",
        "stopped-too-early",
        "vanishing-gradients",
    ),
)
def clipping_too_tight(
    history: History, *, share: float = 0.9, same: float = 5e-3, reach: float = 0.3
) -> Finding | None:
    """Every gradient is cut down to one small norm, and the weights hardly move.

    Why it matters: a bound meant for rare bursts that acts at every step is a second learning
    rate: the step is the rate times the bound, whatever the slope.

    With `torch.amp.GradScaler`, a bound that is applied before `unscale_` meets gradients that are
    still multiplied by the scale, 65,536 at first, and is that much tighter.

    Evidence: the norm of the whole gradient, as it reached the optimizer, at the readings; and the
    update-to-weight ratio times the number of steps, the farthest that a matrix can have moved.
    Threshold: nine in ten readings have the same norm to 0.5 %, no matrix can have moved by 0.3 of
    its norm, and the loss is still above half of its start (or of chance). Silent where every
    optimizer divides the gradient by its own size, as Adam does, to which its norm makes no
    difference; but for entries below 1e-6, near the epsilon that is added to that size.
    False alarms: none known.
    Convicted by: the same steps on a copy without clipping lower the loss.
    Source: Pascanu, Mikolov and Bengio 2013, who set the bound at half to ten times the average
    norm; Google tuning playbook: when more than half of the updates are clipped, lower the rate.
    """
    norms, losses, moved = gradient_norms(history), curve(history, LOSS), largest_movement(history)
    if len(norms) < 6 or len(losses) < 30:
        return None
    if _makes_no_difference(history, float(np.median(norms))):
        return None
    scale = value(history, SCALER_SCALE)
    if scale > 1:  # which doubles now and then, and with it the bound on scaled gradients
        norms = norms / 2.0 ** np.round(np.log2(norms / norms[-1]))
    bound = float(np.median(norms))
    clipped = float((np.abs(norms - bound) <= same * bound).mean())
    start = float(np.mean(losses.head(0.05, 5)))
    late = float(np.mean(losses.tail(0.1, 5)))
    learned = late < 0.5 * start or share_of_chance(history) < 0.5
    if clipped < share or learned or not 0 < moved < reach:
        return None
    if scale > 1 and 1e-3 < bound * scale < 1e3 and bound < 0.01:
        return _scaled(bound, scale, clipped=clipped)
    return Finding(
        severity="warning",
        summary=f"the gradient norm is {number(bound)} at {clipped:.0%} of the readings: it is "
        f"clipped, and no weight matrix can have moved by more than {moved:.1%} of its norm",
        evidence={
            "clipped readings": clipped,
            "norm": bound,
            "largest possible movement": moved,
            "late loss": late,
        },
        prescriptions=(
            Prescription(
                change="clip at several times the usual norm (1 is common), or not at all",
                expect="gradient norms that differ from step to step, and a loss that falls",
                edit={"optimizer.max_grad_norm": 0.0},
            ),
        ),
    )


def _makes_no_difference(history: History, bound: float) -> bool:
    """True if the optimizers make the same update of a gradient of any size."""
    count = value(history, WEIGHTS)
    entries = bound / np.sqrt(count) if count > 0 else bound
    return value(history, SCALE_INVARIANT) == 1 and bool(entries > 1e-6)


def _scaled(bound: float, scale: float, *, clipped: float) -> Finding:
    return Finding(
        severity="error",
        summary=f"gradients are clipped while GradScaler still multiplies them by {number(scale)}: "
        f"their norm is {number(bound)}, which is {number(bound * scale)} / {number(scale)}, at "
        f"{clipped:.0%} of the readings",
        evidence={"norm": bound, "scale": scale, "bound on scaled gradients": bound * scale},
        prescriptions=(
            Prescription(
                change="call scaler.unscale_(optimizer) before clip_grad_norm_, after the last "
                "backward pass of the update",
                expect="gradient norms that differ from step to step, and a loss that falls",
            ),
        ),
    )
