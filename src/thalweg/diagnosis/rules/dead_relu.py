from thalweg.diagnosis.evidence import curve, kind, latest, share_of_chance
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import DEAD_UNITS, OUTPUT_ACTIVATION, OUTPUT_HIGH, OUTPUT_LOW
from thalweg.wording import some


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
        "gradient-never-arrives",
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
    Threshold: half of a layer's units while the loss is above a quarter of chance, or 80 % of them.
    False alarms: a layer far wider than the task needs; classes that the probe batch lacks.
    Convicted by: reviving the units on a copy (fresh incoming weights) lowers the loss.
    Source: Lu et al. 2020, "Dying ReLU and initialization"; SageMaker Debugger's rule has 50 %.
    """
    dead = latest(history, DEAD_UNITS)
    if _output_is_dead(history):
        dead = {"the output": 1.0} | dead
    limit = gone if share_of_chance(history) < learned else share
    bad = [name for name, part in dead.items() if part > limit]
    if not bad:
        return None
    worst = max(bad, key=lambda name: dead[name])
    return Finding(
        severity="warning",
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


def _output_is_dead(history: History) -> bool:
    """Return whether the model ends in a ReLU that gave zero for every sample at most readings."""
    low, high = curve(history, OUTPUT_LOW).values, curve(history, OUTPUT_HIGH).values
    if kind(history, OUTPUT_ACTIVATION) != "relu" or len(low) < 3 or len(low) != len(high):
        return False
    return bool(((low == 0) & (high == 0)).mean() > 0.5)
