from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import TARGET_IS_INPUT, VISIBLE_TOKENS


@rule(
    "targets-not-shifted",
    stage="wiring",
    needs=(VISIBLE_TOKENS,),
    explains=("metric-disagrees-with-loss", "overfitting", "stopped-too-early", "train-val-shift"),
)
def targets_not_shifted(
    history: History, *, nearly_all: float = 0.98, least: float = 0.02
) -> Finding | None:
    """A causal model of tokens is trained to give back the token that it has just read.

    Why it matters: the loss falls to zero, in training and validation alike, and the model has
    learned to copy. A language model was trained on inputs and targets of the same place, or a
    decoder was fed the very targets that it has to predict.

    Evidence: the targets, read off the gradient at the logits, are the inputs of the same place; in
    a copy in eval mode, other tokens from the middle on change the output in the middle, and no
    earlier one.
    Threshold: 98 % of the targets; a change of 2 % of that of the outputs whose tokens changed.
    False alarms: none known. Silent for masked language models and denoising (other targets than
    inputs), for autoencoders (each output depends on all inputs), and for models that shift their
    inputs themselves (the output does not depend on the token of its place).
    Convicted by: shifted by one, the loss stays above zero and generation works.
    Source: Sutskever, Vinyals and Le 2014, "Sequence to sequence learning", section 2.
    """
    share, same = value(history, TARGET_IS_INPUT, "0"), value(history, VISIBLE_TOKENS, "same")
    later = value(history, VISIBLE_TOKENS, "later")
    if not (share >= nearly_all and same > least and later <= least):
        return None
    return Finding(
        severity="error",
        summary="the targets are the input tokens of the same place, which the outputs see: the "
        "model learns to copy",
        evidence={"targets that are the input of the same place": share},
        prescriptions=(
            Prescription(
                change="shift by one: inputs tokens[:, :-1], targets tokens[:, 1:]; feed a decoder "
                "a start token and targets[:, :-1]",
                expect="the loss falls more slowly, and not to zero; what is generated makes sense",
            ),
        ),
    )
