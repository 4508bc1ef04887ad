from thalweg.diagnosis.evidence import curve, finite_values, latest, number, share_of_chance, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import INPUT_OFFSET, INPUT_SCALE, INPUT_STD

STANDARDISE = (
    "subtract the training split's mean and divide by its std, per feature (images: divide by 255 "
    "first), and keep both with the model"
)
ONCE = (
    "scale the inputs once (ToTensor divides by 255 already), then subtract the training split's "
    "mean and divide by its std"
)


@rule(
    "unscaled-inputs",
    stage="data",
    needs=(INPUT_STD, INPUT_OFFSET, INPUT_SCALE),
    explains=(
        "initial-loss-above-chance",
        "learning-rate-too-high",
        "dead-relu",
        "saturated-activations",
        "exploding-gradients",
        "vanishing-gradients",
        "learning-rate-too-low",
        "loss-oscillates",
        "initialisation-scale",
        "underfitting",
        "optimisation-failure",
        "train-val-shift",
        "loss-not-falling",
        "training-plateau",
        "stopped-too-early",
    ),
)
def unscaled_inputs(
    history: History, *, large: float = 10.0, offset: float = 10.0, apart: float = 100.0
) -> Finding | None:
    """The first layer sees numbers far too large or small, far off zero, or of unequal scale.

    Why it matters: initialisers and default learning rates expect features of mean 0 and std 1.
    The curvature of the loss grows with the square of the inputs' scale, so that the largest
    feature decides what learning rate is stable, and the others then hardly learn.

    Evidence: mean and std over samples of each feature (channel, for images) at the input of the
    first layer with weights, so that a model that scales its own inputs passes.
    Threshold: a median std above 10; or a median offset above 10 std, at a scale where it matters;
    or features whose stds differ more than 100-fold, the largest above 3. Inputs in [0, 1] pass.
    Inputs that reach the model with a std under 0.02 and no value above 0.1 (pixels divided by 255
    twice have 0.001) are too small: a warning if the loss has kept half of its chance level, else a
    note.
    False alarms: a single feature with long tails; raw units with a learning rate tuned to them.
    Convicted by: standardised inputs on a copy: the loss falls faster over the same steps.
    Source: LeCun et al. 1998, "Efficient BackProp", §4.3; the threshold is an order of magnitude
    above what any usual preprocessing gives. A limit of [−1, 1] alarms on every image set.
    """
    median = _first(history, "median")
    highest, lowest = _first(history, "highest"), _first(history, "lowest")
    offsets = curve(history, INPUT_OFFSET).values
    off = float(offsets[0]) if len(offsets) else 0.0
    problems = []
    if median > large:
        problems.append(f"a typical feature has std {number(median)}")
    if off > offset and off * median > 1:
        problems.append(f"a typical feature is {number(off)} of its std away from zero")
    if highest > 3 and lowest > 0 and highest / lowest > apart:
        problems.append(f"stds reach from {number(lowest)} to {number(highest)}")
    small = not problems and _is_small(history, highest)
    if small:
        problems.append(
            f"they have std {number(value(history, INPUT_SCALE, 'std'))}: divided twice?"
        )
    if not problems:
        return None
    harmless = small and not share_of_chance(history) > 0.5
    return Finding(
        severity="note" if harmless else "warning",
        summary="inputs are not scaled: " + "; ".join(problems),
        evidence=finite_values(
            {"median std": median, "highest std": highest, "median offset": off}
        ),
        prescriptions=(
            Prescription(
                change=ONCE if small else STANDARDISE,
                expect="the first layer sees mean 0 and std 1; the loss falls faster",
            ),
        ),
    )


def _is_small(history: History, highest: float, *, std: float = 0.02) -> bool:
    """True where both the model's own inputs and the first layer's are tiny."""
    raw = latest(history, INPUT_SCALE)
    return 0 < raw.get("std", 1.0) < std and raw.get("largest", 1.0) < 0.1 and 0 < highest < std


def _first(history: History, place: str) -> float:
    values = curve(history, INPUT_STD, place).values
    return float(values[0]) if len(values) else float("nan")
