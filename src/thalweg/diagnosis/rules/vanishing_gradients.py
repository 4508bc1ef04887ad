import numpy as np

from thalweg.diagnosis.evidence import curve, expected_gain, number, remaining_loss
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import GRADIENT_RATIO


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
) -> Finding | None:
    """Gradients shrink on their way down, so that the lower layers do not learn.

    Why it matters: each saturated or badly scaled layer multiplies the gradient by less than one.
    The rest of it hardly moves the lower weights, and the layers above learn on top of random
    features.

    Evidence: the gradient norm of each weight matrix relative to the matrix's own norm, from the
    first layer to the last, the median over the readings.
    Threshold: the lower third gets less than a thousandth of what the top matrix gets, with three
    matrices or more, and the loss is above half of chance (0.9 of its start where chance is
    unknown). A note while the loss still falls by 5 % in a fifth of the steps: a short run
    shows no harm.
    False alarms: layers that are zero-initialised or slowly unfrozen on purpose.
    Convicted by: freezing the lower layers on a copy changes nothing.
    Source: Glorot and Bengio 2010; the ratio is AutoTrainer's (Zhang et al. 2021).
    """
    medians = [
        (name, float(np.median(values)))
        for name in history.by_place(GRADIENT_RATIO)
        if len(values := curve(history, GRADIENT_RATIO, name).values)
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
