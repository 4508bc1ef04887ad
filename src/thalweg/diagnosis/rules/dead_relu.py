from thalweg.diagnosis.evidence import (
    curve,
    is_bootstrapped,
    kind,
    latest,
    remaining_loss,
)
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    DEAD_UNITS,
    GRADIENT_AT_UPDATE,
    GRADIENT_PRESENT,
    OUTPUT_ACTIVATION,
    OUTPUT_HIGH,
    OUTPUT_LOW,
)
from thalweg.wording import some

RESTS = 3  # readings in a row whose gradient is zero


@rule(
    "dead-relu",
    stage="signal",
    needs=(DEAD_UNITS,),
    explains=(
        "vanishing-gradients",
        "learning-rate-too-low",
        "underfitting",
        "training-plateau",
        "optimisation-failure",
        "loss-not-falling",
    ),
)
def dead_relu(
    history: History, *, share: float = 0.5, gone: float = 0.8, learned: float = 0.25
) -> Finding | None:
    """Most units of a ReLU layer give zero for every sample, so no gradient can revive them.

    Why it matters: a unit whose input is negative on all of the data has slope zero on all of it.
    It takes part in nothing and never will again. Sparse activations are another thing, and
    healthy: each unit then answers to some samples.

    Evidence: the share of units (channels, for images) that are zero on all samples of a probe
    batch of 128 to 512; and outputs that are all zero behind a ReLU.
    Threshold: half of a layer's units while the loss is above a quarter of chance (0.9 of its start
    where chance is unknown) and its targets do not move with the model; else a note from 80 %
    on, since the rest suffices. A layer without a single live unit, where some weight's
    gradient is exactly zero at three readings in a row, is a warning however low the loss: the
    network works without it.
    False alarms: a layer far wider than the task needs; classes that the probe batch lacks.
    Convicted by: reviving the units on a copy (fresh incoming weights) lowers the loss.
    Source: Lu et al. 2020, "Dying ReLU and initialization"; SageMaker Debugger's rule has 50 %.
    """
    dead = latest(history, DEAD_UNITS)
    if _output_is_dead(history):
        dead = {"the output": 1.0} | dead
    harm = remaining_loss(history) >= learned and not is_bootstrapped(history)
    limit = share if harm else gone
    bad = [name for name, part in dead.items() if part > limit]
    if not bad:
        return None
    worst = max(bad, key=lambda name: dead[name])
    gone_for_good = dead[worst] == 1 and _some_weight_rests(history)
    return Finding(
        severity="warning" if harm or gone_for_good else "note",
        summary=f"{dead[worst]:.0%} of the units of {worst or 'a ReLU'} are zero on every sample"
        + (f"; more than {limit:.0%} also in {some([n for n in bad if n != worst])}")
        * (len(bad) > 1),
        where=worst,
        evidence={f"dead in {name}": dead[name] for name in bad[:4]},
        prescriptions=(
            Prescription(
                change="lower the learning rate and start biases at zero; or use GELU or LeakyReLU",
                expect="fewer than 10 % dead units at every reading",
            ),
        ),
    )


def _some_weight_rests(history: History) -> bool:
    """True if the last updates saw a gradient that had arrived, and was exactly zero."""
    present = latest(history, GRADIENT_PRESENT)
    return any(
        len(flags) >= RESTS
        and present.get(name) == 1
        and not any(flags[step] for step in sorted(flags)[-RESTS:])
        for name, flags in history.by_place(GRADIENT_AT_UPDATE).items()
    )


def _output_is_dead(history: History) -> bool:
    """Return whether the model ends in a ReLU that gave zero for every sample at most readings."""
    low, high = curve(history, OUTPUT_LOW).values, curve(history, OUTPUT_HIGH).values
    if kind(history, OUTPUT_ACTIVATION) != "relu" or len(low) < 3 or len(low) != len(high):
        return False
    return bool(((low == 0) & (high == 0)).mean() > 0.5)
