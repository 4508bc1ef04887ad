import numpy as np

from thalweg.diagnosis.evidence import Values, curve, expected_gain, number, remaining_loss
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import GRADIENT_RATIO, UPDATE_RATIO


@rule(
    "vanishing-gradients",
    stage="signal",
    needs=(GRADIENT_RATIO,),
    explains=("learning-rate-too-low", "underfitting", "training-plateau", "optimisation-failure"),
)
def vanishing_gradients(
    history: History,
    *,
    ratio: float = 1e-3,
    least: int = 3,
    learned: float = 0.5,
    falling: float = 0.05,
    moved: float = 0.1,
) -> Finding | None:
    """Gradients shrink on their way down, so that the lower layers do not learn.

    Why it matters: each saturated or badly scaled layer multiplies the gradient by less than one.
    The rest of it hardly moves the lower weights, and the layers above learn on top of random
    features.

    Evidence: the gradient norm of each weight matrix relative to the matrix's own norm, from the
    first layer to the last, the median over the readings from which on each update is below a
    tenth of the matrix: one that started at zero is still made of its updates, and has no scale.
    Threshold: the lower third gets less than a thousandth of what the top matrix gets, with three
    matrices or more, and the loss is above half of chance (0.9 of its start where chance is
    unknown). A note while the loss still falls by 5 % in a fifth of the steps: a short run
    shows no harm.
    False alarms: layers that are slowly unfrozen on purpose.
    Convicted by: freezing the lower layers on a copy changes nothing.
    Source: Glorot and Bengio 2010; the ratio is AutoTrainer's (Zhang et al. 2021).
    """
    medians = [
        (name, float(np.median(values)))
        for name in history.by_place(GRADIENT_RATIO)
        if len(values := _settled_ratios(history, name, moved))
    ]
    if len(medians) < least or not remaining_loss(history) >= learned:
        return None
    lower = medians[: max(1, len(medians) // 3)]
    name, best = max(lower, key=lambda entry: entry[1])
    top = max(medians[len(lower) :], key=lambda entry: entry[1])[1]
    if not 0 < best < ratio * top:  # exactly nothing is a cut graph, not a vanishing gradient
        return None
    end, gain = expected_gain(history)
    return Finding(
        severity="note" if gain > falling * end > 0 else "warning",
        summary=f"gradients vanish on the way down: {name} gets {number(best)} of its norm, the "
        f"top {number(top)}",
        where=name,
        evidence={"lower": best, "top": top, "ratio": best / top},
        prescriptions=(
            Prescription(
                change="put a normalisation before each activation, or skip connections around "
                "pairs of layers; ReLU or GELU in place of sigmoid or tanh, He initialisation",
                expect="gradient-to-weight ratios within a factor of 30 over the depth",
            ),
        ),
    )


def _settled_ratios(history: History, name: str, moved: float) -> Values:
    """Gradient ratios of a matrix at the readings after the last one that changed it much."""
    updates = history.series(UPDATE_RATIO, name)
    start = max((step for step, ratio in updates.items() if not ratio < moved), default=-1)
    return curve(history, GRADIENT_RATIO, name).between(start + 1, np.inf).values
