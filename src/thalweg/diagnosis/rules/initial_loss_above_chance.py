from thalweg.diagnosis.evidence import curve, kind, latest, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    BARE_LOSS,
    BATCH_SIZE,
    CHANCE_LOSS,
    FROZEN_AT_RANDOM,
    LOSS,
    LOSS_INPUT,
    NUM_CLASSES,
    OUTPUT_HIGH,
    OUTPUT_LOW,
)


@rule("initial-loss-above-chance", stage="signal", needs=(LOSS, CHANCE_LOSS, NUM_CLASSES))
def initial_loss_above_chance(
    history: History, *, warning: float = 2.0, note: float = 1.4, batch: float = 16.0
) -> Finding | None:
    """The first loss is far above that of a model that gives every class the same probability.

    Why it matters: an untrained classifier should be undecided, so its cross-entropy starts
    near ln(classes) nat. A higher start means confident wrong guesses: outputs too large at
    initialisation, or targets that mean something else than the loss assumes. The first steps
    then only unlearn these guesses, and push the hidden layers out of their good range.

    Evidence: the first loss as a multiple of ln(classes), or of the targets' variance.
    Threshold: a note above 1.4 times, a warning above twice. PyTorch's default initialisations
    start between 1.0 and 1.3 times on standardised inputs. A mean cross-entropy never exceeds
    ln(classes) plus the spread of the logits: a loss above that is a sum or has other terms,
    and is not reported, nor is one whose graph shows other terms; nor is that of fewer than 16
    samples, which says little. With weights frozen in a trained state it is a note (such a
    model is not new), and so with a temperature or a margin between the outputs and the loss.
    False alarms: fine-tuning with the head of another task.
    Convicted by: the same run with the last layer's weights divided by ten starts at chance and
    falls faster.
    Source: Stanford CS231n notes, "Look for correct loss at chance performance";
    Karpathy 2019, "A Recipe for Training Neural Networks", "verify loss @ init".
    """
    losses, chance = curve(history, LOSS), value(history, CHANCE_LOSS)
    if not len(losses) or losses.steps[0] != min(history.series(LOSS)) or not chance > 0:
        return None  # a start that is not finite is for `loss-not-finite`
    if BARE_LOSS in history and history.first(BARE_LOSS) == 0:
        return None
    sizes = curve(history, BATCH_SIZE).values
    if len(sizes) and float(sizes[0]) < batch:
        return None
    loss = float(losses.values[0])
    if not note * chance < loss <= chance + _spread(history):
        return None
    rescaled = kind(history, LOSS_INPUT) in ("mul", "div")  # a temperature or a margin
    pretrained = 0 in latest(history, FROZEN_AT_RANDOM).values()
    return Finding(
        severity="warning" if loss > warning * chance and not (pretrained or rescaled) else "note",
        summary=f"first loss {number(loss)}, but an undecided model scores {number(chance)}",
        evidence={"first loss": loss, "chance loss": chance, "ratio": loss / chance},
        prescriptions=(
            Prescription(
                change="initialise the last layer near zero (weight std 0.01, bias 0)",
                expect=f"first loss within 40 % of {number(chance)}",
            ),
        ),
    )


def _spread(history: History) -> float:
    """Largest minus smallest output of the first reading; infinite where not measured."""
    low, high = curve(history, OUTPUT_LOW).values, curve(history, OUTPUT_HIGH).values
    return float(high[0] - low[0]) if len(low) and len(high) else float("inf")
