from math import inf

import numpy as np

from thalweg.diagnosis.evidence import curve, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LEARNING_RATE, VAL_ACCURACY, VAL_LOSS, VAL_SAMPLES


@rule(
    "loss-oscillates",
    stage="optimisation",
    needs=(VAL_LOSS, VAL_ACCURACY, VAL_SAMPLES),
)
def loss_oscillates(
    history: History, *, least: int = 6, swing: float = 0.05, relative: float = 0.25
) -> Finding | None:
    """From one validation to the next the scores swing by more than their sampling noise.

    Why it matters: the updates throw the weights about in the valley instead of leading them down;
    the quality of the last weights is luck.

    Evidence: second differences of validation accuracy and loss over the second half of the run.
    Threshold: accuracy swings by 0.05 and by three times the noise of its sample; the loss by a
    quarter of its level; with six validations or more.
    Silent where the learning rate rises again (restarts, cycles): the scores follow it on purpose.
    False alarms: data whose validation is small and changes from one time to the next.
    Convicted by: a third of the learning rate, larger batches, or an average of the weights, lowers
    the level.
    Source: AutoTrainer (Zhang et al. 2021) has swings of 0.03 in a fifth of the epochs.
    """
    accuracy, loss = curve(history, VAL_ACCURACY).values, curve(history, VAL_LOSS).values
    if len(accuracy) < least or len(loss) < least:
        return None
    accuracy, loss = accuracy[-max(5, len(accuracy) // 2) :], loss[-max(5, len(loss) // 2) :]
    moves = float(np.sqrt(np.mean(np.diff(accuracy, 2) ** 2) / 6))
    waves = float(np.sqrt(np.mean(np.diff(loss, 2) ** 2) / 6)) / max(abs(float(loss.mean())), 1e-9)
    mean, samples = float(np.clip(accuracy.mean(), 0, 1)), value(history, VAL_SAMPLES)
    noise = float(np.sqrt(mean * (1 - mean) / samples)) if samples > 0 else float("inf")
    if not (moves > max(swing, 3 * noise) and waves > relative) or _rate_restarts(history):
        return None
    rates = [max(s.values()) for s in history.by_place(LEARNING_RATE).values() if s]
    lower = float(f"{max(rates) / 3:.1g}") if rates else 0.0
    return Finding(
        severity="warning",
        summary=f"validation accuracy swings by ±{moves:.0%} and the loss by ±{waves:.0%} from one "
        "validation to the next",
        evidence={"accuracy swing": moves, "sampling noise": noise, "loss swing": waves},
        prescriptions=(
            Prescription(
                change=f"lower the learning rate to {number(lower)}, or let it decay to zero",
                expect="swings within the sampling noise",
                edit={"optimizer.lr": lower} if lower > 0 else {},
            ),
        ),
    )


def _rate_restarts(history: History, *, factor: float = 2.0) -> bool:
    """Return whether the rate doubled from its lowest value so far, other than from the first."""
    for series in history.by_place(LEARNING_RATE).values():
        lowest, first = inf, next(iter(series.values()), 0.0)
        for rate in series.values():
            if rate > factor * lowest and lowest < first:
                return True
            lowest = min(lowest, rate)
    return False
