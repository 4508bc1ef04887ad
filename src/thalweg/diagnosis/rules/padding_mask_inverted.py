from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import MASK_INVERTED
from thalweg.wording import some


@rule(
    "padding-mask-inverted",
    stage="wiring",
    needs=(MASK_INVERTED,),
    explains=(
        "labels-without-signal",
        "loss-not-falling",
        "loss-not-finite",
        "optimisation-failure",
        "output-ignores-inputs",
        "overfitting",
        "stopped-too-early",
        "training-plateau",
        "underfitting",
    ),
)
def padding_mask_inverted(history: History) -> Finding | None:
    """An attention layer's padding mask hides the words and shows the padding.

    Why it matters: a key padding mask of PyTorch is True where a position is to be *ignored*; many
    other libraries' attention masks are 1 where it is to be kept. Passed the other way round, the
    layer attends to padding alone, and a row without padding to nothing: its numbers become NaN.

    Evidence: the mask that each attention layer of PyTorch is called with, beside the tokens that
    the model takes: the positions of the token that fills the tails of the rows.
    Threshold: exact: every position of padding is shown, and every other one hidden.
    False alarms: none known.
    Convicted by: the layer's output changes with the tokens of the padding, not with the words.
    Source: PyTorch documentation, `nn.MultiheadAttention`, key_padding_mask.
    """
    flags = latest(history, MASK_INVERTED)
    inverted = [name for name, flag in flags.items() if name and flag == 1]
    if not inverted:
        return None
    return Finding(
        severity="error",
        summary="the padding mask is inverted: it hides the content and shows the padding in "
        f"{some(inverted)}",
        where=inverted[0].rpartition(" ")[0],
        evidence={"inverted masks": float(len(inverted))},
        prescriptions=(
            Prescription(
                change="pass the mask that is True at the padding: tokens == padding (of a mask of "
                "ones for content: mask == 0)",
                expect="the outputs change with the content, and the loss falls lower",
            ),
        ),
    )
