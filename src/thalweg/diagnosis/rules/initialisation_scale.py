from thalweg.diagnosis.evidence import curve, number, share_of_chance
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import ACTIVATION_STD


@rule(
    "initialisation-scale",
    stage="signal",
    needs=(ACTIVATION_STD,),
    explains=(
        "vanishing-gradients",
        "exploding-gradients",
        "learning-rate-too-low",
        "learning-rate-too-high",
        "initial-loss-above-chance",
        "saturated-activations",
        "training-plateau",
        "underfitting",
        "optimisation-failure",
        "stopped-too-early",
    ),
)
def initialisation_scale(
    history: History, *, small: float = 3e-3, large: float = 50.0, learned: float = 0.5
) -> Finding | None:
    """At the start, signals die out or blow up on their way through the layers.

    Why it matters: a layer whose weights are too small or too large multiplies the signal's scale;
    over the depth this becomes exponential, forward and backward alike.

    Evidence: the std of what each linear map or convolution gives on a probe batch before training.
    Threshold: a hidden layer's std below 0.003 or above 50. Too small a scale is a note if the loss
    came below half of chance all the same.
    False alarms: inputs of such a scale (then `unscaled-inputs` is the cause); layers followed by a
    normalisation, which undoes it.
    Convicted by: He's initialisation on a copy: the loss falls faster.
    Source: He et al. 2015; Mishkin and Matas 2016 (unit variance layer by layer).
    """
    starts = [
        (name, float(values[0]))
        for name in history.by_place(ACTIVATION_STD)
        if len(values := curve(history, ACTIVATION_STD, name).values)
    ]
    hidden = starts[:-1]
    if not hidden:
        return None
    name, least = min(hidden, key=lambda entry: entry[1])
    top_name, most = max(hidden, key=lambda entry: entry[1])
    if not (least < small or most > large):
        return None
    high = most > large
    harmless = share_of_chance(history) < learned
    place, std = (top_name, most) if high else (name, least)
    return Finding(
        severity="note" if harmless else "warning",
        summary=f"before training, {place} gives numbers of std {number(std)}: the signal "
        + ("blows up" if high else "dies out"),
        where=place,
        evidence={"lowest std": least, "highest std": most},
        prescriptions=(
            Prescription(
                change="use He's initialisation (ReLU) or Glorot's (tanh), or put a normalisation "
                "between the layers",
                expect="stds between 0.1 and 10 over the whole depth",
            ),
        ),
    )
