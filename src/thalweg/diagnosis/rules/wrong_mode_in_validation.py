from thalweg.diagnosis.evidence import latest, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import OPTIMIZERS, VAL_ACCURACY, VAL_LOSS, VAL_MODE
from thalweg.wording import some


@rule("wrong-mode-in-validation", stage="wiring", needs=(VAL_MODE,), explains=("overfitting",))
def wrong_mode_in_validation(history: History) -> Finding | None:
    """The model is validated in train mode: dropout is on, batch norms learn from validation data.

    Why it matters: the scores are too low and noisy with dropout, too good or too bad with batch
    norm; and each validation moves the running averages, so that validating changes the model.

    Evidence: the flag of every module whose behaviour depends on it, in passes without gradient.
    Threshold: exact. A note for one of two players without a logged validation: pictures that a
    generator draws in between are no validation, and most draw them in train mode.
    False alarms: Monte-Carlo dropout on purpose; a pass under `no_grad` that is not a validation,
    such as an update of batch-norm statistics.
    Convicted by: the validation loss differs between the modes on the same samples.
    Source: PyTorch documentation, "Evaluation mode (nn.Module.eval())"; Lightning-AI issue 19820.
    """
    flags = latest(history, VAL_MODE)
    wrong = [name for name, flag in flags.items() if flag == 1 and name]
    if value(history, VAL_MODE) != 1 or not wrong:
        return None
    validates = VAL_LOSS in history or VAL_ACCURACY in history
    is_player = value(history, OPTIMIZERS) > 1
    return Finding(
        severity="note" if is_player and not validates else "warning",
        summary=f"validation runs in train mode: {some(wrong)} behave as in training",
        where=wrong[0],
        evidence={"modules in train mode": float(len(wrong))},
        prescriptions=(
            Prescription(
                change="call model.eval() before validating and model.train() after it",
                expect="the same validation twice gives the same numbers",
            ),
        ),
    )
