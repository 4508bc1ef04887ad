from thalweg.diagnosis.evidence import curve, number, remaining_loss
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import ACTIVATION_STD, OUTPUT_SPREAD


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
    history: History,
    *,
    small: float = 3e-3,
    large: float = 50.0,
    learned: float = 0.5,
    faint: float = 1e-3,
) -> Finding | None:
    """At the start, signals die out or blow up on their way through the layers.

    Why it matters: a layer whose weights are too small or too large multiplies the signal's scale;
    over the depth this becomes exponential, forward and backward alike.

    Evidence: the std of what each linear map or convolution gives on a probe batch before training.
    Threshold: a hidden layer's std below 0.003, and so in every hidden layer after it, or the first
    outputs differ between samples by less than 0.1 % of their size: later layers then show their
    biases alone. Or a std above 50. A note if the loss came below half of chance (0.9 of its start
    where chance is unknown) all the same. A layer that gives zero while those after it are alive is
    a branch that starts at zero on purpose: an adapter, a residual branch, one of several heads.
    Of a branch that adds next to nothing to a sum, such as LoRA's, the sum is what is judged.
    False alarms: inputs of such a scale (then `unscaled-inputs` is the cause); layers followed by a
    normalisation, which undoes it.
    Convicted by: He's initialisation on a copy: the loss falls faster.
    Source: He et al. 2015; Mishkin and Matas 2016 (unit variance layer by layer).
    """
    curves = {
        name: curve(history, ACTIVATION_STD, name) for name in history.by_place(ACTIVATION_STD)
    }
    first = min((float(one.steps[0]) for one in curves.values() if len(one)), default=0.0)
    starts = [
        (name, float(one.values[0]))
        for name, one in curves.items()
        if len(one) and one.steps[0] == first  # no layer that was added later
    ]
    hidden = starts[:-1]
    if not hidden:
        return None
    lowest = min(hidden, key=_std)
    name, least = max(hidden[hidden.index(lowest) :], key=_std)
    if 0 < _first_spread(history) < faint:
        name, least = lowest
    top_name, most = max(hidden, key=_std)
    if not (least < small or most > large):
        return None
    high = most > large
    harmless = not remaining_loss(history) >= learned
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


def _first_spread(history: History) -> float:
    """The spread of the outputs over samples at the first reading; zero where it came late."""
    spreads = curve(history, OUTPUT_SPREAD)
    return float(spreads.values[0]) if len(spreads) and spreads.steps[0] == 0 else 0.0


def _std(entry: tuple[str, float]) -> float:
    return entry[1]
