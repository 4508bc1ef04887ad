from thalweg.diagnosis.evidence import curve
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import TRAIN_MODE
from thalweg.wording import some


@rule("wrong-mode-in-training", stage="wiring", needs=(TRAIN_MODE,), explains=("overfitting",))
def wrong_mode_in_training(history: History, *, share: float = 0.5) -> Finding | None:
    """The model is trained in eval mode: dropout does nothing, batch norms use stale statistics.

    Why it matters: after `model.eval()` for a validation, or `from_pretrained`, nothing switches
    back by itself. Dropout is then off, and batch norms normalise with running averages that no
    longer follow the weights.

    Evidence: the flag of every module whose behaviour depends on it, in passes with gradient.
    Threshold: exact: the whole model in eval mode in most readings after the first, with dropout or
    batch norm in it. Single modules in eval mode within a model in train mode are a choice (frozen
    batch norm) and pass.
    False alarms: fine-tuning with everything in eval mode on purpose.
    Convicted by: the same batch has another loss in train mode, one item at a time or batched.
    Source: Lightning-AI issue 20573; PyTorch documentation, "Evaluation mode".
    """
    flags = curve(history, TRAIN_MODE).values
    if len(flags) < 3 or (flags == 0).mean() <= share:
        return None
    modules = [name for name in history.by_place(TRAIN_MODE) if name]
    return Finding(
        severity="warning",
        summary=f"the model is in eval mode while it is trained, so {some(modules)} "
        "behave as in validation",
        where=modules[0] if modules else "",
        evidence={"share of training steps in eval mode": float((flags == 0).mean())},
        prescriptions=(
            Prescription(
                change="call model.train() before each epoch, after the validation",
                expect="every dropout and batch norm is in train mode at every step",
            ),
        ),
    )
