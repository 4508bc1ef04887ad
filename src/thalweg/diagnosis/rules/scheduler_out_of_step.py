from thalweg.diagnosis.evidence import curve, latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    LEARNING_RATE,
    LOSS,
    SCHEDULER_CALLS,
    SCHEDULER_HORIZON,
    SCHEDULER_MILESTONE,
    SCHEDULER_WARMUP,
    VAL_ACCURACY,
    VAL_LOSS,
)


@rule(
    "scheduler-out-of-step",
    stage="wiring",
    needs=(SCHEDULER_CALLS, LOSS),
    explains=(
        "learning-rate-collapsed",
        "learning-rate-restarted",
        "learning-rate-too-low",
        "loss-oscillates",
        "stopped-too-early",
        "training-plateau",
        "underfitting",
    ),
)
def scheduler_out_of_step(history: History, *, least: int = 20) -> Finding | None:
    """The scheduler is called once an epoch while its horizon counts batches, or the reverse.

    Why it matters: a one-cycle schedule of 10,000 steps that is called once an epoch never leaves
    its warm-up; a cosine over 10 epochs that is called at each batch is over within the first, and
    so are milestones at epochs 30, 60 and 90.

    Evidence: how often the scheduler was called, its horizon, and the number of updates.
    Threshold: exact counts: called at most once in five updates, with a horizon that equals all
    updates of the run to an epoch, or with a warm-up of five times the calls or more that fits into
    the updates; or called at every update, with a horizon that equals the number of validations, or
    is passed three times within the run, or with steps down that fit into the number of validations
    and brought the rate to a fifth or less in the first third of the run.
    False alarms: a schedule with warm restarts has no horizon and passes; a run that was ended
    early passes.
    Convicted by: the same steps with the scheduler called as often as its horizon counts.
    Source: PyTorch documentation, "OneCycleLR": step() after every batch.
    """
    updates = history.count(LOSS)
    if updates < least:
        return None
    for name, calls in latest(history, SCHEDULER_CALLS).items():
        if not calls > 0:
            continue
        horizon = latest(history, SCHEDULER_HORIZON).get(name, 0.0)
        if horizon > 0 and calls <= updates / 5 and abs(horizon - updates) <= updates / calls:
            return _too_seldom(name, calls, horizon=horizon, updates=updates)
        warmup = latest(history, SCHEDULER_WARMUP).get(name, 0.0)
        if calls <= updates / 5 and 5 * calls <= warmup <= updates:
            return _too_seldom(name, calls, horizon=warmup, updates=updates, part="warm-up")
        if horizon > 0 and _is_too_often(history, calls, horizon=horizon, updates=updates):
            return _too_often(name, calls, horizon=horizon, updates=updates)
        last = latest(history, SCHEDULER_MILESTONE).get(name, 0.0)
        if last > 0 and _is_stepped_down_early(history, calls, last=last, updates=updates):
            return _too_often(name, calls, horizon=last, updates=updates)
    return None


def _epochs(history: History) -> int:
    """Validations: as many as there were epochs, where each ends in one."""
    return max(len(curve(history, VAL_LOSS)), len(curve(history, VAL_ACCURACY)))


def _is_stepped_down_early(history: History, calls: float, *, last: float, updates: int) -> bool:
    """True if steps down that count epochs were taken at batches, and brought the rate down."""
    if not 0.8 * updates <= calls <= 1.2 * updates or last > updates / 3:
        return False
    rates = [
        curve(history, LEARNING_RATE, place).values for place in history.by_place(LEARNING_RATE)
    ]
    if not any(len(rate) and rate[-1] <= rate.max() / 5 for rate in rates):
        return False
    epochs = _epochs(history)
    return last <= epochs <= 3 * last if epochs >= 2 else last < updates / 10


def _is_too_often(history: History, calls: float, *, horizon: float, updates: int) -> bool:
    if not 0.8 * updates <= calls <= 1.2 * updates or calls < 2 * horizon:
        return False
    epochs = _epochs(history)
    return epochs == horizon or (epochs < 2 and calls >= 3 * horizon and horizon < updates / 10)


def _too_seldom(
    name: str, calls: float, *, horizon: float, updates: int, part: str = "schedule"
) -> Finding:
    return Finding(
        severity="warning",
        summary=f"{name} was called {calls:.0f} times in {updates:,} updates, once an epoch, but "
        f"its {part} of {horizon:,.0f} counts batches: the run ended {calls / horizon:.1%} into it",
        where=name,
        evidence={"calls": calls, "horizon": horizon, "updates": float(updates)},
        prescriptions=(
            Prescription(
                change="call scheduler.step() after every optimizer.step(), within the loop over "
                "batches",
                expect="the learning rate has run through its schedule at the last step",
            ),
        ),
    )


def _too_often(name: str, calls: float, *, horizon: float, updates: int) -> Finding:
    return Finding(
        severity="warning",
        summary=f"{name} was called {calls:,.0f} times in {updates:,} updates, at every batch, but "
        f"its horizon of {horizon:,.0f} counts epochs: the schedule was over after "
        f"{horizon / calls:.1%} of the run",
        where=name,
        evidence={"calls": calls, "horizon": horizon, "updates": float(updates)},
        prescriptions=(
            Prescription(
                change="call scheduler.step() once an epoch, after the loop over batches; or set "
                f"its horizon to the number of batches, {updates:,} in this run",
                expect="the learning rate has run through its schedule at the last step",
            ),
        ),
    )
