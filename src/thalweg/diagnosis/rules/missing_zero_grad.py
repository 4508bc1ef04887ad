from thalweg.diagnosis.evidence import curve, latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import HELD, LEFTOVER_GRADIENT
from thalweg.wording import some


@rule(
    "missing-zero-grad",
    stage="wiring",
    needs=(LEFTOVER_GRADIENT, HELD),
    explains=(
        "learning-rate-too-high",
        "exploding-gradients",
        "dead-relu",
        "loss-oscillates",
        "over-regularised",
    ),
)
def missing_zero_grad(history: History, *, share: float = 0.5) -> Finding | None:
    """The gradient of earlier steps is still there when a new step's gradient arrives.

    Why it matters: `backward` adds to `.grad`. Without a clearing, each update follows the sum of
    all gradients so far: an endless momentum that overshoots, or a learning rate that grows with
    every step. Training may still seem to work, only worse and less stably.

    Evidence: the norm of each weight's `.grad` at the moment when the first gradient after an
    update is about to be added to it. With `zero_grad` anywhere before, it is exactly zero.
    Threshold: exact: more than zero at most readings (never at one alone), in half of the weights
    or more. Accumulation over micro-batches starts from zero and is not confused with it.
    False alarms: none known; clearing on purpose only every few updates is the same fault.
    Convicted by: the gradient recomputed from zero on the same batch differs from the one applied.
    Source: PyTorch documentation, "torch.optim.Optimizer.zero_grad"; exact.
    """
    held = latest(history, HELD)
    places = [n for n in history.by_place(LEFTOVER_GRADIENT) if held.get(n) == 1]
    left = []
    for name in places:
        readings = curve(history, LEFTOVER_GRADIENT, name).values
        if len(readings) >= 2 and (readings > 0).mean() > share:
            left.append(name)
    if not left or len(left) < share * len(places):
        return None
    worst = max(left, key=lambda name: value(history, LEFTOVER_GRADIENT, name))
    norm = value(history, LEFTOVER_GRADIENT, worst)
    return Finding(
        severity="error",
        summary="gradients are not cleared between updates: when a new gradient arrives, the old "
        f"one is still there in {some(left)} (norm {number(norm)})",
        where=worst,
        evidence={"weights": float(len(left)), "of": float(len(places)), "norm left": norm},
        prescriptions=(
            Prescription(
                change="call optimizer.zero_grad() before loss.backward(), once an update",
                expect="no gradient is left when the next backward pass begins",
            ),
        ),
    )
