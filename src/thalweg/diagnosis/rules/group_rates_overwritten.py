from thalweg.diagnosis.evidence import latest, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import RATES_FLATTENED


@rule(
    "group-rates-overwritten",
    stage="wiring",
    needs=(RATES_FLATTENED,),
    explains=(
        "dead-relu",
        "exploding-gradients",
        "learning-rate-too-high",
        "learning-rate-too-low",
        "loss-oscillates",
        "saturated-activations",
    ),
)
def group_rates_overwritten(history: History, *, ratio: float = 1.5) -> Finding | None:
    """The optimizer's groups were built with different learning rates, and every step used one.

    Why it matters: a loop that writes the same rate into every group, or a schedule that is given
    one maximum, undoes the rates that keep a pretrained body or the lower layers slow. A factor
    such as lr_scale in a group is no setting of PyTorch's: the loop has to multiply with it.

    Evidence: the groups' rates, or factors of the rate, when watching began, and the groups' rates
    at every step.
    Threshold: exact: they differed by half or more at first, and were equal at every step of 20 or
    more.
    False alarms: rates that were only placeholders; optimizers that read such a factor themselves
    are not PyTorch's and are not compared.
    Convicted by: printing the groups' rates at any step.
    Source: PyTorch documentation, "torch.optim: Per-parameter options".
    """
    ratios = latest(history, RATES_FLATTENED)
    unused = {name: each for name, each in ratios.items() if name and each >= ratio}
    if not unused:
        return None
    name = "lr" if "lr" in unused else max(unused, key=lambda one: unused[one])
    return Finding(
        severity="warning",
        summary=f"the optimizer's groups differ in {name} by a factor of {number(unused[name])} as "
        "they were built, but had one and the same learning rate in every step",
        where=name,
        evidence={"largest ratio": unused[name]},
        prescriptions=(
            Prescription(
                change="multiply each group's own rate with the schedule's factor (LambdaLR does; "
                "OneCycleLR takes a list of maxima), in place of one rate for all",
                expect="the groups' rates keep their ratio at every step",
            ),
        ),
    )
