import numpy as np

from thalweg.diagnosis.evidence import curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import DATA_WAIT, LOSS, STEP_TIME


@rule("data-loading-dominates", stage="data", needs=(DATA_WAIT, STEP_TIME, LOSS))
def data_loading_dominates(
    history: History, *, share: float = 0.5, minute: float = 60.0
) -> Finding | None:
    """Most of each step is spent waiting for the next batch.

    Why it matters: the processor that trains stands idle; a faster model or machine would change
    nothing.

    Evidence: the time from the end of one update to the beginning of the next forward pass, as a
    share of the step; the median over the readings.
    Threshold: half. A warning if it cost a minute or more in all, a note from five seconds on.
    False alarms: other work between the steps (logging, validation) counts as waiting.
    Convicted by: the same batch over and over trains faster.
    Source: PyTorch performance tuning guide, "Enable asynchronous data loading".
    """
    waits, times = curve(history, DATA_WAIT).values, curve(history, STEP_TIME).values
    if len(waits) < 5 or not len(times):
        return None
    waited = float(np.median(waits))
    lost = waited * float(np.median(times)) * history.count(LOSS)
    if waited < share or lost < minute / 12:
        return None
    return Finding(
        severity="warning" if lost > minute else "note",
        summary=f"{waited:.0%} of each step is spent waiting for data: {number(lost)} s in all",
        evidence={"share waited": waited, "seconds lost": lost},
        prescriptions=(
            Prescription(
                change="decode once and cache, use several workers (num_workers), and pin memory",
                expect="less than a tenth of the step waiting",
            ),
        ),
    )
