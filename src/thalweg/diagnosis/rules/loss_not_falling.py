import numpy as np

from thalweg.diagnosis.evidence import (
    Curve,
    Values,
    curve,
    fall,
    is_bootstrapped,
    loss_is_error,
    number,
    value,
)
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    ACCURACY,
    CHANCE_LOSS,
    LOSS,
    LOSS_KIND,
    OPTIMIZERS,
)


@rule(
    "loss-not-falling",
    stage="optimisation",
    needs=(LOSS,),
    explains=("training-plateau", "underfitting", "optimisation-failure"),
    symptom=True,
)
def loss_not_falling(
    history: History, *, least_steps: int = 40, least_fall: float = 0.02
) -> Finding | None:
    """The training loss is no lower at the end than at the beginning.

    Why it matters: nothing is being learned, and more epochs will not help. This is a symptom;
    where a rule of an earlier stage speaks too, that one names the cause.

    Evidence: the mean loss of the first and of the last fifth of the steps, with standard errors.
    Threshold: a fall of less than 2 % or less than two standard errors over 40 steps or more, by
    the means and by the ranks, while the loss is above 0.8 of chance (or chance is unknown) and
    not below 0.7 of the first three losses.
    False alarms: losses that are not meant to fall, as in adversarial or reinforcement learning:
    a note where there are several optimizers, where the graph shows no loss that is known as an
    error, or where the targets move with a copy of the model (temporal difference learning); a
    model that had converged before the watch began.
    Convicted by: other settings learn a single batch by heart, from the same start.
    Source: Karpathy 2019, "A Recipe for Training Neural Networks", "overfit one batch"; the
    standard-error test is Welch's, that of the ranks Mann and Whitney's.
    """
    losses = curve(history, LOSS)
    if len(losses) < least_steps or _already_good(history, losses):
        return None
    early, late = losses.head(0.2), losses.tail(0.2)
    total_fall, error = fall(early, late)
    significant = total_fall > 2 * error or _rank_excess(early, late) > 3
    if significant and total_fall > least_fall * abs(float(np.mean(early))):
        return None
    if float(early.min() - late.max()) > least_fall * abs(float(early.min())):
        return None  # the fall itself is what spreads the early losses
    first, last = float(np.mean(early)), float(np.mean(late))
    initial_fall, noise = fall(losses.values[:3], late)
    if initial_fall > max(2 * noise, 0.3 * abs(float(losses.values[:3].mean()))):
        return None  # it fell at once and then stayed down
    return Finding(
        severity="note" if _has_no_floor(history, losses) else "warning",
        summary=f"mean loss {number(first)} in the first fifth of {losses.num_steps} steps, "
        f"{number(last)} in the last: no fall beyond the noise",
        evidence={"early loss": first, "late loss": last, "standard error": error},
        prescriptions=(
            Prescription(
                change="train on one single batch until it is learned by heart; if that fails, "
                "look for what cuts the gradient off (detach, frozen weights, dead units)",
                expect="the loss on that batch goes to zero within a few hundred steps",
            ),
            Prescription(
                change="try learning rates ten times higher and ten times lower for 100 steps each",
                expect="one of them falls by more than two standard errors",
            ),
        ),
    )


def _already_good(history: History, losses: Curve) -> bool:
    chance, late = value(history, CHANCE_LOSS), float(np.mean(losses.tail(0.2)))
    accuracies = curve(history, ACCURACY)
    below_chance = chance > 0 and late < 0.8 * chance
    return below_chance or (len(accuracies) > 2 and float(np.mean(accuracies.tail(0.3))) > 0.9)


def _rank_excess(early: Values, late: Values) -> float:
    """Standard deviations by which early losses outrank late ones more often than by chance."""
    if len(early) < 3 or len(late) < 3:
        return 0.0
    higher = float((early[:, None] > late[None]).mean())
    spread = ((len(early) + len(late) + 1) / (12 * len(early) * len(late))) ** 0.5
    return (higher - 0.5) / spread


def _has_no_floor(history: History, losses: Curve) -> bool:
    """Return whether low losses mean little: two players, moving targets, or a reward."""
    if is_bootstrapped(history):
        return True
    if LOSS_KIND in history:
        return not loss_is_error(history)
    return float(losses.values.min()) < 0 or value(history, OPTIMIZERS) > 1
