import numpy as np

from thalweg.diagnosis.evidence import curve, expected_gain, number, share_of_chance
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    LEARNING_RATE,
    LOSS,
    OPTIMIZERS,
    VAL_LOSS,
)


@rule(
    "stopped-too-early",
    stage="optimisation",
    needs=(LOSS, OPTIMIZERS),
    explains=("underfitting", "optimisation-failure"),
)
def stopped_too_early(
    history: History, *, high: float = 0.5, promise: float = 0.1, least: int = 24
) -> Finding | None:
    """The run ended while the loss was still falling steeply.

    Why it matters: the score then measures the length of the run, not the model.

    Evidence: the slope of the training loss over the last third, with its standard error, and over
    the whole run; the logged validation losses.
    Threshold: the slope is below zero by three standard errors and promises, in a fifth more steps,
    10 % of the loss; or 1 % while the loss is above 0.7 of chance and falls at last nearly as fast
    (0.8) as on average. A warning while the loss is above half of chance, the learning rate has
    not been brought down to a tenth of its peak, and the lowest of several validation losses is
    among the last; else a note.
    False alarms: runs cut short on purpose, as in a search. Under a schedule that ends near zero
    the loss falls fastest at the end of every run, long enough or not: hence only a note.
    Convicted by: a fifth more steps from the last weights lower the validation loss.
    Source: Google tuning playbook, "is the model still improving at the end".
    """
    end, gain = expected_gain(history, least=least)
    level = share_of_chance(history)
    on_rails = level > 0.7 and gain > 0.01 * end and _steady(history, gain)
    if not (gain > promise * end > 0 or on_rails):
        return None
    ended = _wound_down(history) or _validation_turned(history)
    return Finding(
        severity="warning" if level > high and not ended else "note",
        summary=f"at the end the loss was {number(end)} and still falling by "
        f"{number(gain)} in a fifth of the steps",
        evidence={"late loss": end, "promised by a fifth more": gain},
        prescriptions=(
            Prescription(
                change="train three times as long",
                expect="the loss levels off before the end",
            ),
        ),
    )


def _wound_down(history: History, share: float = 0.1) -> bool:
    """Return whether the learning rate fell to that share of its peak: the run came to its end."""
    groups = [list(series.values()) for series in history.by_place(LEARNING_RATE).values()]
    return bool(groups) and all(rates[-1] <= share * max(rates) for rates in groups)


def _steady(history: History, gain: float) -> bool:
    """Return whether a fifth more steps promise nearly the fall of a fifth of the run."""
    losses = curve(history, LOSS)
    total_fall = float(np.mean(losses.head(0.1, 3))) - float(np.mean(losses.tail(0.1, 3)))
    return total_fall > 0 and gain > 0.8 * total_fall / 5


def _validation_turned(history: History, least: int = 4) -> bool:
    """Return whether the lowest validation loss comes before the last quarter of them."""
    values = curve(history, VAL_LOSS).values
    return len(values) >= least and int(np.argmin(values)) < len(values) - max(1, len(values) // 4)
