from thalweg.diagnosis.evidence import curve, expected_gain, latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS, OUTPUT_SPREAD, TARGET_STD


@rule(
    "output-ignores-inputs",
    stage="optimisation",
    needs=(OUTPUT_SPREAD, LOSS),
    explains=("loss-not-falling", "training-plateau", "underfitting"),
    symptom=True,
)
def output_ignores_inputs(
    history: History, *, constant: float = 1e-5, collapsed: float = 0.05, least: int = 100
) -> Finding | None:
    """The outputs are the same for every input: a constant, or a decoder that ignores its latents.

    Why it matters: the network has learned the mean of the targets and nothing else. Its units are
    dead or saturated, a branch is cut off, or, in a variational autoencoder, the penalty on the
    latents has won: they carry nothing (posterior collapse).

    Evidence: the spread of the outputs over some samples of a real batch, in eval mode, late in the
    run; beside the spread of the inputs where the gradient shows that these are the targets.
    Threshold: a spread of 1e-5 of the outputs' size after 100 steps; of an autoencoder, 5 % of its
    inputs' after 300 steps, where the loss no longer falls.
    False alarms: targets that are themselves constant (silent where that was measured).
    Convicted by: other inputs, the same output.
    Source: Bowman et al. 2016, "Generating sentences from a continuous space", section 3.1.
    """
    losses, spreads = curve(history, LOSS), latest(history, OUTPUT_SPREAD)
    measured = curve(history, OUTPUT_SPREAD).steps
    late = len(measured) > 0 and measured[-1] >= max(least, len(losses) / 3)
    if not late or value(history, TARGET_STD) == 0 or _is_solved(history):
        return None
    spread, inputs = spreads.get("", float("nan")), spreads.get("inputs", float("nan"))
    if spread < constant:
        return _finding("the output is the same for every input", spread)
    gain = expected_gain(history)[1]
    if spread < collapsed * inputs and len(losses) >= 3 * least and gain == 0:
        summary = (
            f"the reconstructions hardly depend on the inputs: their spread is {number(spread)} of "
            f"their size, that of the inputs {number(inputs)}"
        )
        return _finding(summary, spread)
    return None


def _is_solved(history: History) -> bool:
    losses = curve(history, LOSS).values
    return len(losses) > 0 and abs(float(losses[-1])) < 1e-3 * abs(float(losses[0]))


def _finding(summary: str, spread: float) -> Finding:
    return Finding(
        severity="warning",
        summary=summary,
        evidence={"spread of the outputs, as a share of their size": spread},
        prescriptions=(
            Prescription(
                change="look for a layer whose units are all dead or saturated, and for a branch "
                "that is cut off or multiplied by zero; in a variational autoencoder, raise the "
                "weight of the latents' penalty slowly from 0, or lower it",
                expect="the outputs differ between inputs",
            ),
        ),
    )
