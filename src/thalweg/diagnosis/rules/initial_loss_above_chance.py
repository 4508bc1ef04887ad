from math import log

from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import LOSS, NUM_CLASSES


@rule("initial-loss-above-chance", stage="signal", needs=(LOSS, NUM_CLASSES))
def initial_loss_above_chance(history: History, *, tolerance: float = 0.25) -> Finding | None:
    """The first loss is worse than giving every class the same probability.

    Why it matters: an untrained classifier should be undecided, so its cross-entropy starts
    near ln(classes) nat. A higher start means confident wrong guesses: outputs too large at
    initialisation, or targets that do not mean what the loss thinks. The first steps are then
    spent unlearning them.

    False alarms: a loss summed over tokens, pixels or tasks instead of averaged.
    Source: Stanford CS231n notes, "Look for correct loss at chance performance";
    Karpathy 2019, "A Recipe for Training Neural Networks", "verify loss @ init".
    """
    loss, chance = history.first(LOSS), log(history.first(NUM_CLASSES))
    if not loss > chance * (1 + tolerance):  # NaN is silent here: `loss-not-finite` speaks for it
        return None
    return Finding(
        severity="warning",
        summary=f"first loss {loss:.2f} nat, but an undecided model scores {chance:.2f}",
        evidence={"first loss": loss, "chance loss": chance},
        prescriptions=(
            Prescription(
                change="initialise the last layer near zero (weight std 0.01, bias 0)",
                expect=f"first loss within {tolerance:.0%} of {chance:.2f} nat",
            ),
        ),
    )
