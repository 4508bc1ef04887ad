from thalweg.diagnosis.evidence import curve, kind, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    OUT_OF_REACH,
    OUTPUT_ACTIVATION,
    TARGET_HIGH,
    TARGET_LOW,
)


@rule(
    "output-cannot-reach-targets",
    stage="output",
    needs=(OUT_OF_REACH, OUTPUT_ACTIVATION),
    explains=(
        "unscaled-targets",
        "learning-rate-too-low",
        "training-plateau",
        "underfitting",
        "dead-relu",
        "saturated-activations",
        "vanishing-gradients",
        "loss-does-not-fit-task",
        "optimisation-failure",
    ),
)
def output_cannot_reach_targets(history: History, *, share: float = 0.05) -> Finding | None:
    """Some targets lie outside the range of the last activation.

    Why it matters: a sigmoid cannot give 7, a ReLU cannot give −1. The loss has a floor that no
    training lowers, and training drives the output into the flat part of the activation, where
    there is no gradient.

    Evidence: the last operation of the model and its range; the share of targets outside it.
    Threshold: 5 % of the targets or more, so that a few outliers pass.
    False alarms: targets clipped on purpose; a transform of the outputs outside the model.
    Convicted by: with the activation removed, the loss on one batch goes below the floor.
    Source: Wardat et al. 2022, "DeepDiagnosis" (outputs outside the activation's range).
    """
    shares = curve(history, OUT_OF_REACH).values
    if not len(shares) or float(shares.mean()) < share:
        return None
    low = float(curve(history, TARGET_LOW).values.min(initial=value(history, TARGET_LOW)))
    high = float(curve(history, TARGET_HIGH).values.max(initial=value(history, TARGET_HIGH)))
    name = kind(history, OUTPUT_ACTIVATION)
    return Finding(
        severity="error",
        summary=f"the model ends in a {name}, but targets reach from {number(low)} to "
        f"{number(high)}: {float(shares.mean()):.0%} of them are out of its reach",
        evidence={"share out of reach": float(shares.mean())},
        prescriptions=(
            Prescription(
                change=f"take the {name} off the end of the model (a linear output)",
                expect="the training loss falls below the floor that it has now",
            ),
            Prescription(
                change="or scale the targets into its range, and the predictions back",
                expect="no target outside the range",
            ),
        ),
    )
