from thalweg.diagnosis.evidence import curve, expected_gain, latest, number
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import DEAD_UNITS, LOSS, OUTPUT_SPREAD

LEAP = 5.0  # times the first loss: too high a learning rate threw the model off


@rule(
    "posterior-collapse",
    stage="output",
    needs=(OUTPUT_SPREAD, LOSS),
    explains=(
        "dead-relu",
        "output-ignores-inputs",
        "loss-not-falling",
        "training-plateau",
        "underfitting",
        "vanishing-gradients",
    ),
)
def posterior_collapse(
    history: History, *, collapsed: float = 0.05, rate: float = 0.02, least_steps: int = 300
) -> Finding | None:
    """A variational autoencoder's latents carry nothing: the decoder gives the average of the data.

    Why it matters: the penalty on the latents (the KL term) weighs more than what they could gain
    in reconstruction, so the encoder gives pure noise. The usual cause is a mean in one term and a
    sum in the other: the error averaged over the features, or the KL term summed over the batch.

    Evidence: the graph of the loss, in which the output comes from μ + σ·ε and a term depends on μ
    beside the output; the gradient, which shows that the inputs are the targets; the change of the
    outputs when the inputs change and the noise does not.
    Threshold: outputs that differ between inputs by less than 5 % of what the inputs do, after 300
    steps, where the loss would fall by less than 2 % in a fifth more of them. Silent where a whole
    layer is dead or the loss leapt to five times its start, which are other causes.
    False alarms: data whose samples are alike; a penalty that is still to be lowered.
    Convicted by: the KL term alone is near zero.
    Source: Bowman et al. 2016, "Generating sentences from a continuous space", section 3.1; Lucas
    et al. 2019, "Don't blame the ELBO!".
    """
    spreads, losses = latest(history, OUTPUT_SPREAD), curve(history, LOSS)
    spread, inputs = spreads.get("latents", float("nan")), spreads.get("inputs", float("nan"))
    measured = curve(history, OUTPUT_SPREAD, "latents").steps
    if not 0 <= spread < collapsed * inputs < collapsed * float("inf"):
        return None
    if losses.num_steps < least_steps or measured[-1] < losses.num_steps / 3:
        return None
    end, gain = expected_gain(history)
    if gain > rate * abs(end):
        return None
    if losses.values.max() > LEAP * abs(losses.values[0]):
        return None
    if 1.0 in latest(history, DEAD_UNITS).values():
        return None
    return Finding(
        severity="warning",
        summary="the decoder ignores the latents: the reconstructions differ between inputs by "
        f"{number(spread)} of their size, the inputs by {number(inputs)} (posterior collapse)",
        evidence={"spread of the outputs": spread, "spread of the inputs": inputs},
        prescriptions=(
            Prescription(
                change="sum the reconstruction error over the features and the KL term over the "
                "latents of a sample, then average both over the batch: "
                "error.flatten(1).sum(1).mean() + kl.sum(1).mean()",
                expect="the KL term rises to some nats a sample, and reconstructions differ",
            ),
            Prescription(
                change="raise the weight of the KL term from 0 to 1 over the first epochs, or "
                "leave it below 1 (β), or let each latent have some nats for free",
                expect="the latents are in use before the penalty is whole",
            ),
        ),
    )
