from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import TARGET_IS_INPUT


@rule(
    "targets-shifted-twice",
    stage="wiring",
    needs=(TARGET_IS_INPUT,),
    explains=("stopped-too-early", "training-plateau", "underfitting", "loss-not-falling"),
)
def targets_shifted_twice(history: History, *, nearly_all: float = 0.98) -> Finding | None:
    """A model of tokens is trained to predict the token after the next.

    Why it matters: the labels were shifted by one in the data, and once more by the model or its
    loss, as Hugging Face's do when they are called with `labels=`. The loss stays high, and what is
    generated skips every other token.

    Evidence: the targets, read off the gradient at the logits, are the inputs two places on.
    Threshold: 98 % of the targets.
    False alarms: models that predict the token after the next on purpose, with that output first.
    Convicted by: with one shift less, the loss is lower from the first epoch.
    Source: Hugging Face documentation, "Causal language modeling": labels are shifted inside.
    """
    share = value(history, TARGET_IS_INPUT, "2")
    if not share >= nearly_all:
        return None
    return Finding(
        severity="error",
        summary="the targets are the input tokens two places further on: they were shifted twice",
        evidence={"targets that are the input two places on": share},
        prescriptions=(
            Prescription(
                change="shift once: pass labels=input_ids to a model that shifts them itself, or "
                "targets tokens[:, 1:] to a loss that does not",
                expect="the targets are the next inputs, and the loss falls lower",
            ),
        ),
    )
