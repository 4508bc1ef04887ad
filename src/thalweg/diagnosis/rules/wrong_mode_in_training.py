from thalweg.diagnosis.evidence import curve, latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    EVAL_SHARE,
    INITIAL_STATISTICS,
    LOSS,
    MODE_DIFFERS,
    TRAIN_MODE,
    TRAINED_BESIDE,
)
from thalweg.wording import some


@rule(
    "wrong-mode-in-training",
    stage="wiring",
    needs=(EVAL_SHARE, MODE_DIFFERS),
    explains=("overfitting", "stopped-too-early", "underfitting", "over-regularised"),
)
def wrong_mode_in_training(
    history: History, *, share: float = 0.05, least_steps: int = 3
) -> Finding | None:
    """Weights are trained while dropout or batch norms among them are in eval mode.

    Why it matters: after `model.eval()` for a validation, or `from_pretrained`, nothing switches
    back by itself. Dropout is then off, and batch norms normalise with running averages that no
    longer follow the weights. Half an epoch in eval mode is seen in no curve, but costs what the
    dropout was there for; a batch norm with its initial statistics normalises nothing.

    Evidence: the flag of every module whose behaviour depends on it, read at every step; at the
    readings, the flags within the forward pass. Where the two differ, the readings alone count.
    Threshold: exact flags. A warning where a module whose neighbouring weights are trained was in
    eval mode in a twentieth of the updates together with the whole model, or in more than half of
    them alone.
    False alarms: modules beside frozen weights pass. A batch norm in eval mode by itself, with
    statistics that are not the initial ones, is a choice (frozen batch norm) and only noted.
    Fine-tuning with everything in eval mode on purpose.
    Convicted by: the same batch has another loss in train mode, one item at a time or batched.
    Source: Lightning-AI issue 20573; PyTorch documentation, "Evaluation mode".
    """
    shares, updates = _eval_shares(history), history.count(LOSS)
    beside, initial = latest(history, TRAINED_BESIDE), latest(history, INITIAL_STATISTICS)
    idle = [n for n, part in shares.items() if n and part > share and beside.get(n, 1.0) == 1]
    by_hand = len(shares) == 1  # nothing but the model's own forward, which reads its flag
    if not (idle or by_hand) or updates < least_steps:
        return None
    whole = shares.get("", 0.0)
    if whole > share and whole * updates >= least_steps:
        return _whole_model(idle, whole, updates)
    alone = [name for name in idle if shares[name] > 0.5]
    faulty = [name for name in alone if initial.get(name, 1.0) == 1]
    if faulty:
        return _part(faulty, shares, initial)
    return _frozen_norms(alone) if alone else None


def _eval_shares(history: History) -> dict[str, float]:
    """Shares of all updates; of the readings where the flags changed between forward and step."""
    differs = curve(history, MODE_DIFFERS).values
    if len(differs) and not differs.any():
        return latest(history, EVAL_SHARE)
    readings = {place: curve(history, TRAIN_MODE, place) for place in history.by_place(TRAIN_MODE)}
    return {
        place: float((flags.values == 0).mean()) for place, flags in readings.items() if len(flags)
    }


def _whole_model(idle: list[str], whole: float, updates: int) -> Finding:
    always = whole > 0.95
    when = "" if always else f" in {whole:.0%} of the {updates:,} updates"
    return Finding(
        severity="warning",
        summary=f"the model is in eval mode while it is trained{when}, so "
        + (f"{some(idle)} behave" if idle else "its forward pass behaves")
        + " as in validation",
        where=idle[0] if idle else "",
        evidence={"share of training steps in eval mode": whole},
        prescriptions=(
            Prescription(
                change="call model.train() before each epoch, after the validation"
                if always
                else "call model.train() right after each validation, also within an epoch: "
                "eval() holds until then",
                expect="every dropout and batch norm is in train mode at every step",
            ),
        ),
    )


def _part(faulty: list[str], shares: dict[str, float], initial: dict[str, float]) -> Finding:
    part = _common_part(faulty)
    norms = [name for name in faulty if initial.get(name) == 1]
    effect = "their dropout drops nothing"
    if norms:
        effect = "their batch norms still have the initial statistics and normalise nothing"
    inside = f" in {part}" if part else ""
    return Finding(
        severity="warning",
        summary=f"{some(faulty)}{inside} are in eval mode while the weights beside them are "
        f"trained: {effect}",
        where=part or faulty[0],
        evidence={
            "modules in eval mode": float(len(faulty)),
            "share of training steps in eval mode": max(shares[name] for name in faulty),
        },
        prescriptions=(
            Prescription(
                change=f"remove the eval() call on {part or faulty[0]} in the training loop or in "
                "train(), or freeze its weights too (requires_grad_(False))",
                expect="every dropout and batch norm beside trained weights is in train mode",
            ),
        ),
    )


def _frozen_norms(names: list[str]) -> Finding:
    return Finding(
        severity="note",
        summary=f"{some(names)} normalise with their running statistics while the weights beside "
        "them are trained (frozen batch norm)",
        where=names[0],
        evidence={"modules in eval mode": float(len(names))},
        prescriptions=(
            Prescription(
                change="leave it so for pretrained statistics and small batches; else call "
                "train() on them",
                expect="the statistics follow the weights",
            ),
        ),
    )


def _common_part(names: list[str]) -> str:
    """The innermost module that all of these stand in; "" for the model itself."""
    parts = [name.split(".")[:-1] for name in names]
    common: list[str] = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common)
