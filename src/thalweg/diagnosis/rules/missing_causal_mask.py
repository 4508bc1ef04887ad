from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import TARGET_IS_INPUT, VISIBLE_TOKENS


@rule(
    "missing-causal-mask",
    stage="wiring",
    needs=(VISIBLE_TOKENS,),
    explains=("metric-disagrees-with-loss", "overfitting", "stopped-too-early", "train-val-shift"),
)
def missing_causal_mask(
    history: History, *, nearly_all: float = 0.98, least: float = 0.02
) -> Finding | None:
    """A model that is trained to predict the next token, or the next value, sees it.

    Why it matters: without a causal mask each output attends to the token that it has to predict; a
    convolution that pads on both sides, or a second direction of a recurrent layer, reads it. The
    loss falls far below that of an honest model, in training and validation alike, and what is
    generated token by token is nonsense.

    Evidence: the targets, read off the gradient at the output of a cross-entropy or of a squared
    error, are the inputs one place further on; in a copy in eval mode, other tokens from the middle
    on change the outputs before it.
    Threshold: 98 % of the targets; a change of 2 % of that of the outputs whose tokens changed.
    False alarms: data that move by one place in each step, fed to a model that steps all of them at
    once. Silent for masked language models (their targets are not the next inputs), for a forecast
    of later values alone, for prefixes without targets, which may be seen whole, and where another
    argument, as a decoder's input, holds the same tokens and is masked.
    Convicted by: with the mask, the loss rises to that of an honest model, and generation works.
    Source: Vaswani et al. 2017, "Attention is all you need", section 3.1; PyTorch documentation,
    `nn.Transformer.generate_square_subsequent_mask`.
    """
    share, change = value(history, TARGET_IS_INPUT, "1"), value(history, VISIBLE_TOKENS, "later")
    if not (share >= nearly_all and change > least):
        return None
    return Finding(
        severity="error",
        summary="the outputs see the inputs that they are trained to predict: other inputs later "
        "in the sequence change the outputs before them",
        evidence={
            "targets that are the next input": share,
            "change of earlier outputs, as a share of later ones'": change,
        },
        prescriptions=(
            Prescription(
                change="mask later positions in every self-attention: is_causal=True, or an upper "
                "triangular mask (of True, or of −∞, above the diagonal); pad convolutions on the "
                "left alone; no second direction in recurrent layers",
                expect="outputs no longer change with later tokens; the loss is higher, and real",
            ),
        ),
    )
