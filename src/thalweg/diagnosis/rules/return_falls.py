import numpy as np

from thalweg.diagnosis.evidence import as_curve, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import RETURN


@rule(
    "return-falls",
    stage="output",
    needs=(RETURN,),
    explains=("loss-not-falling", "stopped-too-early", "training-plateau", "underfitting"),
)
def return_falls(history: History, *, fewest: int = 6) -> Finding | None:
    """The agent's return falls below that of the untrained one and stays there.

    Why it matters: an optimizer minimises. A policy's loss without its minus sign, or with the
    advantage reversed, makes the actions that paid less likely: the loss falls, and the agent gets
    worse at each update.

    Evidence: numbers that the user logs under a name with "return" or "reward".
    Threshold: six of them or more; each of the later half below the mean of the first quarter, and
    their mean below it by three standard errors and by a tenth.
    False alarms: a return that is a cost, with the better values below; an environment that is made
    harder while training.
    Convicted by: with the other sign, the return rises from the same start.
    Source: Williams 1992, "Simple statistical gradient-following algorithms for connectionist
    reinforcement learning" (REINFORCE: ascent on r·∂ log π).
    """
    for name, series in history.by_place(RETURN).items():
        values = as_curve(series).values
        values = values[np.isfinite(values)]
        if len(values) < fewest:
            continue
        early, late = values[: max(2, len(values) // 4)], values[len(values) // 2 :]
        start, end = float(early.mean()), float(late.mean())
        error = float(np.hypot(late.std() / np.sqrt(len(late)), values.std() / len(values)))
        clear = start - end > max(3 * error, 0.1 * abs(start))
        if clear and late.max() < start:
            return Finding(
                severity="warning",
                summary=f"{name} falls from {number(start)} to {number(end)} while the loss is "
                "minimised",
                where=name,
                evidence={"early": start, "late": end},
                prescriptions=(
                    Prescription(
                        change="check the sign: loss = -(log_prob * advantage).mean(), with "
                        "advantage = return - value; a bonus, as for entropy, is subtracted",
                        expect="the return rises from the same start",
                    ),
                ),
            )
    return None
