from math import isfinite

from thalweg.diagnosis.evidence import as_curve, curve, latest, number, share_of_chance, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    BASELINE_ACCURACY,
    CHANCE_LOSS,
    DROPOUT,
    EVAL_MODE_LOSS,
    LOSS,
    TRAIN_ACCURACY,
    TRAIN_MODE_LOSS,
    WEIGHT_DECAY,
)


@rule(
    "over-regularised",
    stage="generalisation",
    needs=(LOSS, TRAIN_MODE_LOSS, EVAL_MODE_LOSS, WEIGHT_DECAY),
    explains=(
        "underfitting",
        "optimisation-failure",
        "training-plateau",
        "loss-not-falling",
        "stopped-too-early",
    ),
)
def over_regularised(
    history: History,
    *,
    gap: float = 0.2,
    pull: float = 1.0,
    high: float = 0.3,
    most: float = 0.8,
) -> Finding | None:
    """Dropout or weight decay keeps the model from fitting its training samples.

    Why it matters: regularisation trades fit for generality. Where the training fit itself is poor,
    there is nothing to trade.

    Evidence: the loss of the same samples in train and in eval mode; the share of the weights that
    decay removes over the run (the sum of decay × learning rate over the steps); the share of its
    inputs that each dropout module zeroes.
    Threshold: train mode costs 0.2 of chance more than eval mode, at a loss above 0.3 of chance;
    or decay has removed more than the whole of the weights and the training loss is above 0.3 of
    chance. A warning if nearest neighbours also beat the training accuracy, a dropout module zeroes
    four fifths of its inputs, or the decay is the cause; else a note.
    False alarms: strong dropout on data so scarce that it pays.
    Convicted by: half the dropout, or half the decay, raises the validation score.
    Source: Srivastava et al. 2014, "Dropout", figure 9; Krogh and Hertz 1991 for decay.
    """
    chance, level = value(history, CHANCE_LOSS), share_of_chance(history)
    train, evaluated = value(history, TRAIN_MODE_LOSS), value(history, EVAL_MODE_LOSS)
    if not (level > high and isfinite(train) and isfinite(evaluated)):
        return None
    noisy = train - evaluated > gap * chance
    decay = _decay_over_run(history)
    if not (noisy or decay > pull):
        return None
    behind = value(history, TRAIN_ACCURACY) < latest(history, BASELINE_ACCURACY).get(
        "nearest neighbours", 0.0
    )
    place, dropped = max(
        latest(history, DROPOUT).items(), key=lambda one: one[1], default=("", 0.0)
    )
    strong = dropped >= most
    cause = "weight decay" if decay > pull else "dropout or other noise of train mode"
    if strong and decay <= pull:
        cause = f"dropout of {dropped:.0%}"
    return Finding(
        severity="warning" if decay > pull or behind or strong else "note",
        where=place if strong and decay <= pull else "",
        summary=f"{cause} holds the training loss at {level:.0%} of chance "
        f"({number(train)} in train mode, {number(evaluated)} in eval mode)",
        evidence={"train mode": train, "eval mode": evaluated, "decay over the run": decay},
        prescriptions=(
            Prescription(
                change="set the weight decay to 0.01 or less"
                if decay > pull
                else "halve the dropout",
                expect="a lower training loss in train mode, a higher validation score",
                edit={"optimizer.weight_decay": 0.01} if decay > pull else {},
            ),
        ),
    )


def _decay_over_run(history: History) -> float:
    """The sum of decay × learning rate over the steps, of the group that decays most."""
    steps = curve(history, LOSS).num_steps
    means = [
        float(values.mean())
        for series in history.by_place(WEIGHT_DECAY).values()
        if len(values := as_curve(series).values)
    ]
    return max(means, default=0.0) * steps
