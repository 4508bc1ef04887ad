import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from thalweg.diagnosis.evidence import curve, gradient_norms, is_bootstrapped, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BATCH_SIZE, CHANCE_LOSS, GRADIENT_NORM, LOSS

FEW = 4  # samples a batch, of which one hard one makes the loss leap


@rule(
    "exploding-gradients",
    stage="signal",
    needs=(GRADIENT_NORM, LOSS),
    explains=("loss-not-finite", "loss-oscillates"),
)
def exploding_gradients(
    history: History, *, burst: float = 10.0, spike: float = 3.0, most: int = 3, least: int = 60
) -> Finding | None:
    """Gradients burst to many times their usual size, and the loss leaps with them.

    Why it matters: on a cliff of the loss one gradient is as long as hundreds of others; the update
    it makes throws away what these had learned.

    Evidence: the norm of the whole gradient at the readings, and the loss at every step, each
    against the running median of those before.
    Threshold: three or more separate steps whose loss exceeds the median of the 20 before by three
    times, by 8 robust deviations, and 0.3 of chance (or of the start; all of it with batches of
    four or fewer); after which the median of ten losses stays above half as much again: what had
    been learned is lost, where one hard batch leaves no trace; and a reading of gradient norm 10
    times the usual. A note if the loss came down to a tenth of its start all the same, or the
    targets move with a copy of the model, as a value network's, and the loss with them.
    False alarms: rare batches that are much harder than the others.
    Convicted by: clipping at the 90th percentile on a copy calms the loss.
    Source: Pascanu, Mikolov and Bengio 2013; Google tuning playbook (clip at the 90th percentile).
    """
    norms = gradient_norms(history)
    losses = curve(history, LOSS)
    if len(norms) < 6 or len(losses) < least:
        return None
    bursts = int((norms[2:] > burst * np.median(norms)).sum())
    chance = value(history, CHANCE_LOSS)
    share = 1.0 if value(history, BATCH_SIZE) <= FEW else 0.3
    floor = share * (chance if chance > 0 else float(losses.values[0]))
    leaps = _leaps(losses.values, spike, floor)
    if bursts < 1 or leaps < most:
        return None
    usual = float(np.median(norms))
    start, late = float(np.median(losses.head(0.05, 5))), float(np.median(losses.tail(0.2)))
    return Finding(
        severity="note" if late < 0.1 * start or is_bootstrapped(history) else "warning",
        summary=f"the gradient norm is {number(usual)} as a rule and {number(float(norms.max()))} "
        f"at its worst; the loss leapt {leaps} times",
        evidence={"usual norm": usual, "highest norm": float(norms.max()), "leaps": float(leaps)},
        prescriptions=(
            Prescription(
                change=f"clip the gradient norm at {number(float(np.quantile(norms, 0.9)))}, and "
                "warm the learning rate up",
                expect="no leap of the loss",
                edit={"optimizer.max_grad_norm": float(f"{np.quantile(norms, 0.9):.2g}")},
            ),
        ),
    )


def _leaps(
    losses: np.ndarray[tuple[int, ...], np.dtype[np.float64]], spike: float, floor: float
) -> int:
    count, last = 0, -10
    if len(losses) <= 20:
        return 0
    windows = sliding_window_view(losses, 20)[:-1]  # those that end before each loss from the 20th
    medians = np.median(windows, 1)
    spreads = 1.4826 * np.median(np.abs(windows - medians[:, None]), 1)
    high = losses[20:] > np.maximum.reduce(
        [spike * medians, medians + 8 * spreads, np.full_like(medians, floor)]
    )
    for i in (20 + np.flatnonzero(high)).tolist():
        usual = float(medians[i - 20])
        after = losses[i + 1 : i + 11]
        lasting = len(after) > 4 and float(np.median(after)) > 1.5 * usual
        if lasting and i - last >= 10:
            count, last = count + 1, i
    return count
