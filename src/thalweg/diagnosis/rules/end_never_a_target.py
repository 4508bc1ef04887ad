from thalweg.diagnosis.evidence import curve, number, value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import END_IGNORED, PADDING


@rule("end-never-a-target", stage="data", needs=(END_IGNORED, PADDING))
def end_never_a_target(history: History) -> Finding | None:
    """The token that ends a sequence is ignored with the padding: the model never learns to stop.

    Why it matters: with one token for the end and for padding (`pad_token = eos_token`), a mask of
    the padding also hides each sequence's own end. Nothing in the loss shows it; the model then
    generates until it is cut off.

    Evidence: of a next-token loss, the target behind the last token of each row's content, and the
    shortest tail of padding. Where even the longest row of every batch, which needs no padding,
    ends in that token, it is the end of the sequence itself.
    Threshold: exact: no row's end is a target; a warning where each batch's shortest tail is one
    token, a note where all rows are padded to a fixed length, so that it may be padding alone.
    Rows whose content ends in one and the same token have an end of their own, and pass.
    False alarms: one spare place of padding in each batch, of a token that means nothing else.
    Convicted by: with the first token of each tail as a target, generated text ends.
    Source: Hugging Face forum and transformers issue 22794, "pad_token = eos_token".
    """
    shares, shortest = curve(history, END_IGNORED, "share"), curve(history, END_IGNORED, "shortest")
    if not len(shares) or not len(shortest):
        return None
    if float(shares.values.min()) < 1 or float(shortest.values.min()) < 1:
        return None
    single = bool((shortest.values == 1).all()) and len(shortest) >= 3
    token = value(history, PADDING, "token")
    return Finding(
        severity="warning" if single else "note",
        summary=f"token {number(token)} ends every row and is never a target: if it is the end of "
        "a sequence, the model never learns to stop",
        evidence={"token": token, "rows whose end is ignored": 1.0},
        prescriptions=(
            Prescription(
                change="pad with a token of its own, or mask padding by the attention mask or by "
                "length, so that the first end token of each row stays a target",
                expect="generated sequences end by themselves",
            ),
        ),
    )
