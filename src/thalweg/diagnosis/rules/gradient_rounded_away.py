from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import BEHIND_STEP, GRADIENT_AT_UPDATE, STEP_FUNCTION
from thalweg.wording import some

LEAST = 3  # readings


@rule(
    "gradient-rounded-away",
    stage="wiring",
    needs=(BEHIND_STEP, GRADIENT_AT_UPDATE),
    explains=(
        "frozen-random-weights",
        "gradient-never-arrives",
        "initialisation-scale",
        "samples-mixed-in-batch",
        "symmetric-initialisation",
        "vanishing-gradients",
    ),
)
def gradient_rounded_away(history: History) -> Finding | None:
    """A step function (round, sign, floor) stands between some weights and the loss.

    Why it matters: its derivative is zero, so these weights get a gradient of exact zeros, without
    any error, and never learn. Quantisation, binarisation and spiking units need an estimator that
    lets the gradient through as if the step were not there.

    Evidence: the loss's graph, in which every path to these weights leads through a step function,
    and their gradient at each reading.
    Threshold: exact: behind a step at the last reading, and zero at three readings or more.
    False alarms: weights kept behind a step on purpose, which the optimizer holds all the same.
    Convicted by: `x + (x.round() - x).detach()` in its place: these weights have a gradient.
    Source: Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons".
    """
    at_update = history.by_place(GRADIENT_AT_UPDATE)
    behind = [
        name for name, flag in latest(history, BEHIND_STEP).items() if name != "none" and flag
    ]
    cut = [
        name
        for name in behind
        if len(flags := at_update.get(name, {})) >= LEAST and max(flags.values()) == 0
    ]
    if not cut:
        return None
    steps = some(sorted(latest(history, STEP_FUNCTION)))
    return Finding(
        severity="error",
        summary=f"the gradient of {some(cut)} is exactly zero: it passes {steps} on its way",
        where=cut[0],
        evidence={"weights behind a step function": float(len(cut)), "of": float(len(at_update))},
        prescriptions=(
            Prescription(
                change="let the gradient through (straight-through estimator): "
                "x + (x.round() - x).detach() instead of x.round(), or a smooth function",
                expect="every weight has a gradient other than zero, and the loss falls",
            ),
        ),
    )
