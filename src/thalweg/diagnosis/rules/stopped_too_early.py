from thalweg.diagnosis.evidence import number, promised, share_of_chance
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LEARNING_RATE, LOSS, OPTIMIZERS


@rule(
    "stopped-too-early",
    stage="optimisation",
    needs=(LOSS, OPTIMIZERS),
    explains=("underfitting", "optimisation-failure"),
    trial="a-fifth-more",
)
def stopped_too_early(
    history: History, *, high: float = 0.5, promise: float = 0.1, least: int = 30
) -> Finding | None:
    """The run ended while the loss was still falling steeply.

    Why it matters: what is judged is not the model but the patience.

    Evidence: the slope of the training loss over the last third, with its standard error.
    Threshold: the slope is below zero by three standard errors and promises 10 % in a fifth more
    steps; a warning while the loss is above half of chance and the learning rate has not been
    brought down to a tenth of its peak, else a note.
    False alarms: runs cut short on purpose, as in a search. Under a schedule that ends near zero
    the loss falls fastest at the end of every run, long enough or not: hence only a note.
    Convicted by: a fifth more steps from the last weights lower the validation loss.
    Source: Google tuning playbook, "is the model still improving at the end".
    """
    end, gain = promised(history, least=least)
    if not gain > promise * end > 0:
        return None
    level = share_of_chance(history)
    return Finding(
        severity="warning" if level > high and not _wound_down(history) else "note",
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
    """Whether the learning rate was brought down to that share of its peak: a run that ended."""
    rates = [list(series.values()) for series in history.by_place(LEARNING_RATE).values()]
    return bool(rates) and all(found[-1] <= share * max(found) for found in rates)
