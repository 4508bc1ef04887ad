from thalweg.diagnosis.evidence import as_curve, remaining_loss
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import SATURATED


@rule(
    "saturated-activations",
    stage="signal",
    needs=(SATURATED,),
    explains=("vanishing-gradients", "learning-rate-too-low", "underfitting", "training-plateau"),
)
def saturated_activations(
    history: History, *, share: float = 0.5, learned: float = 0.3
) -> Finding | None:
    """Most outputs of a sigmoid or tanh lie where its slope is almost zero.

    Why it matters: the gradient is multiplied by that slope. The layers below hardly learn.

    Evidence: the share of outputs with |slope| < 0.02, on a probe batch in eval mode; the last
    activation of the model is an output and does not count.
    Threshold: half of a layer's outputs at two readings or the last, while the loss is still above
    0.3 of chance (0.9 of its start where chance is unknown); else a note.
    False alarms: gates, which may saturate on purpose; binary codes.
    Convicted by: the layer's incoming weights divided by ten on a copy: the loss falls faster.
    Source: Glorot and Bengio 2010; SageMaker Debugger's SaturatedActivation.
    """
    bad = {}
    for name, series in history.by_place(SATURATED).items():
        values = as_curve(series).values
        if len(values) and (values[-1] > share or (values > share).sum() >= 2):
            bad[name] = float(values.max())
    if not bad:
        return None
    worst = max(bad, key=lambda name: bad[name])
    return Finding(
        severity="warning" if remaining_loss(history) >= learned else "note",
        summary=f"{bad[worst]:.0%} of the outputs of {worst or 'a sigmoid or tanh'} are saturated",
        where=worst,
        evidence={f"saturated in {name}": part for name, part in list(bad.items())[:4]},
        prescriptions=(
            Prescription(
                change="initialise with Glorot's scale, scale the inputs, or put a normalisation "
                "before the activation",
                expect="fewer than 10 % saturated outputs",
            ),
        ),
    )
