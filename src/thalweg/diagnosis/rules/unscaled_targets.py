from thalweg.diagnosis.evidence import curve, kind, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS, LOSS_KIND, TARGET_MEAN, TARGET_STD


@rule(
    "unscaled-targets",
    stage="data",
    needs=(TARGET_STD, LOSS_KIND),
    explains=(
        "learning-rate-too-high",
        "learning-rate-too-low",
        "exploding-gradients",
        "loss-oscillates",
        "stopped-too-early",
        "underfitting",
        "dead-relu",
        "initialisation-scale",
        "loss-not-finite",
    ),
)
def unscaled_targets(history: History, *, decades: float = 1.5) -> Finding | None:
    """The targets of a regression are far from the scale at which the outputs start.

    Why it matters: an initialised model gives outputs near 0 with std near 1. Targets of 10,000
    make the first errors, and so the gradients, that large; targets of 0.001 make them vanish
    beside the initial noise. The learning rate that suits the one harms the other.

    Evidence: mean and std of the targets, with a loss of differences.
    Threshold: std, or distance of the mean from 0, beyond 10^1.5 = 32; or a std under 1/100. It is
    a note if the loss came down to a hundredth of the targets' variance all the same.
    False alarms: a model whose last layer is initialised for the targets' unit.
    Convicted by: standardised targets on a copy: R² rises faster.
    Source: Bishop 1995, "Neural Networks for Pattern Recognition", §8.2; bounds as TheDeepChecker.
    """
    if kind(history, LOSS_KIND) not in ("mse", "l1", "smooth_l1"):
        return None
    std, mean = value(history, TARGET_STD), value(history, TARGET_MEAN)
    large = std > 10**decades or (abs(mean) > 10**decades and abs(mean) > 3 * std)
    small = 0 < std < 0.01 and abs(mean) < 1
    if not (large or small):
        return None
    losses = curve(history, LOSS).tail(0.2)
    fits = len(losses) > 0 and float(losses.mean()) < 0.01 * (std * std)
    fits = fits and kind(history, LOSS_KIND) == "mse"
    return Finding(
        severity="note" if fits else "warning",
        summary=f"targets have mean {number(mean)} and std {number(std)}; outputs start near "
        "mean 0 and std 1",
        evidence={"target mean": mean, "target std": std},
        prescriptions=(
            Prescription(
                change="standardise the targets with the training split's mean and std, and scale "
                "predictions back",
                expect="a first loss near 1 that falls below it",
            ),
        ),
    )
