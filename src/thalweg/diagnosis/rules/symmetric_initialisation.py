from thalweg.diagnosis.evidence import curve, latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import CONSTANT_WEIGHT, FROZEN_AT_RANDOM, IDENTICAL_ROWS
from thalweg.wording import some


@rule(
    "symmetric-initialisation",
    stage="signal",
    needs=(IDENTICAL_ROWS, CONSTANT_WEIGHT),
    explains=(
        "dead-relu",
        "learning-rate-too-low",
        "underfitting",
        "optimisation-failure",
        "vanishing-gradients",
        "initialisation-scale",
        "training-plateau",
        "stopped-too-early",
        "initial-loss-above-chance",
        "saturated-activations",
    ),
)
def symmetric_initialisation(history: History) -> Finding | None:
    """All units of a layer have the same weights, so they learn the same thing, or nothing.

    Why it matters: equal units give equal outputs and receive equal gradients. The layer is one
    unit, however wide; with all zeros, nothing passes in either direction.

    Evidence: weight matrices whose rows, or whose entries, are all equal to one part in a million,
    at the start and after updates.
    Threshold: rows still equal after updates; or a constant other than zero at the start; or more
    than half of the matrices zero at the start. Single layers that start at zero and differ later
    (a zero-initialised head or residual branch) are sound.
    False alarms: a frozen averaging layer, built by hand.
    Convicted by: the units' gradients are equal too.
    Source: Goodfellow, Bengio and Courville 2016, "Deep Learning", §8.4; exact.
    """
    frozen = latest(history, FROZEN_AT_RANDOM)
    still: list[str] = []
    constant: list[str] = []
    zero: list[str] = []
    for name in history.by_place(IDENTICAL_ROWS):
        rows = curve(history, IDENTICAL_ROWS, name)
        values = curve(history, CONSTANT_WEIGHT, name).values
        if name in frozen or not len(rows):
            continue
        if len(rows) >= 2 and rows.values[-1] == 1 and rows.values[0] == 1:
            still.append(name)
        elif rows.values[0] == 1 and len(values) and values[0] > 0:
            constant.append(name)
        elif rows.values[0] == 1:
            zero.append(name)
    if not still and len(zero) > len(history.by_place(IDENTICAL_ROWS)) / 2:
        constant += zero
    if not (still or constant):
        return None
    return Finding(
        severity="error" if still else "warning",
        summary=f"all units of {some(still or constant)} "
        + (
            "have the same weights, after updates too" if still else "started with the same weights"
        ),
        where=(still or constant)[0],
        evidence={"matrices": float(len(still or constant))},
        prescriptions=(
            Prescription(
                change="initialise weights at random (PyTorch's default, or He's); only biases and "
                "last layers may start at zero",
                expect="rows that differ from the first step on",
            ),
        ),
    )
