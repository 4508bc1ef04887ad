from thalweg.diagnosis.evidence import curve, finite_values, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import INPUT_OFFSET, INPUT_STD


@rule(
    "unscaled-inputs",
    stage="data",
    needs=(INPUT_STD, INPUT_OFFSET),
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
    ),
)
def unscaled_inputs(
    history: History, *, large: float = 10.0, offset: float = 10.0, apart: float = 100.0
) -> Finding | None:
    """The first layer sees numbers that are far too large, far off zero, or of unequal scale.

    Why it matters: initialisers and default learning rates expect features of mean 0 and std 1.
    The curvature of the loss grows with the square of the inputs' scale, so that the largest
    feature decides what learning rate is stable, and the others then hardly learn.

    Evidence: mean and std over samples of each feature (channel, for images) at the input of the
    first layer with weights, so that a model that scales its own inputs passes.
    Threshold: a median std above 10; or a median offset above 10 std, at a scale where it matters;
    or features whose stds differ more than 100-fold, the largest above 3. Inputs in [0, 1] pass.
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
    if not problems:
        return None
    return Finding(
        severity="warning",
        summary="inputs are not scaled: " + "; ".join(problems),
        evidence=finite_values(
            {"median std": median, "highest std": highest, "median offset": off}
        ),
        prescriptions=(
            Prescription(
                change="subtract the training split's mean and divide by its std, per feature "
                "(images: divide by 255 first), and keep both with the model",
                expect="the first layer sees mean 0 and std 1; the loss falls faster",
            ),
        ),
    )


def _first(history: History, place: str) -> float:
    values = curve(history, INPUT_STD, place).values
    return float(values[0]) if len(values) else float("nan")
