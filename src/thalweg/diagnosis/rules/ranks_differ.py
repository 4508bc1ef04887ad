from math import hypot

from thalweg.diagnosis.evidence import curve, latest, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import RANK_DISTANCE, RANK_LOSS, RANK_LOSS_ERROR


@rule(
    "ranks-differ",
    stage="data",
    needs=(RANK_LOSS, RANK_LOSS_ERROR, RANK_DISTANCE),
    explains=("loss-not-falling", "training-plateau", "label-noise", "underfitting"),
)
def ranks_differ(
    history: History, *, ratio: float = 1.5, errors: float = 6.0, least: int = 2
) -> Finding | None:
    """One rank's loss is unlike the others', with the same weights on all.

    Why it matters: the ranks draw from one data set, so the same weights have the same loss on
    each of them. Where they have not, one rank's targets or preprocessing are others, and its
    gradient spoils the average.

    Evidence: the mean of the last 64 losses on each rank, at readings where the weights are equal.
    Threshold: twice in a row, the largest and the smallest are apart by half of the smallest, and
    by six standard errors.
    False alarms: data dealt out by class, length or source, so that each rank has a kind of its
    own; that is worth mending, too.
    Convicted by: the same batch on each rank: the loss is the same.
    Source: Li et al. 2020, "PyTorch Distributed", section 2.2 (an average of gradients stands for
    the whole batch only if the shares are alike).
    """
    means = {
        place: curve(history, RANK_LOSS, place).values for place in history.by_place(RANK_LOSS)
    }
    apart = curve(history, RANK_DISTANCE).values
    if len(means) < 2 or not float(apart.max(initial=0.0)) < 1e-3:
        return None
    error = max(latest(history, RANK_LOSS_ERROR).values(), default=0.0)
    for back in range(1, least + 1):
        losses = [values[-back] for values in means.values() if len(values) >= back]
        if len(losses) < len(means) or not min(losses) > 0:
            return None
        low, high = min(losses), max(losses)
        if not high > ratio * low or not high - low > errors * hypot(error, error):
            return None
    ends = {place: float(values[-1]) for place, values in means.items()}
    worst, best = max(ends, key=lambda place: ends[place]), min(ends, key=lambda place: ends[place])
    return Finding(
        severity="warning",
        summary=f"with the same weights the loss is {number(ends[worst])} on rank {worst} and "
        f"{number(ends[best])} on rank {best}",
        evidence={f"loss on rank {place}": ends[place] for place in (worst, best)},
        prescriptions=(
            Prescription(
                change=f"compare inputs, targets and preprocessing of rank {worst} with those of "
                f"rank {best}, and shuffle the data before it is dealt out",
                expect="the same loss on every rank",
            ),
        ),
    )
