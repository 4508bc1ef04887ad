from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import COUNTED_TOKENS, VISIBLE_TOKENS

ALIASED = (
    "the labels were masked together with the inputs: every target is one and the same token",
    "copy the tokens before masking: labels = input_ids.clone(), then input_ids[masked] = mask_id",
)
INVERTED = (
    "the loss leaves out the masked tokens and counts those that the inputs show",
    "ignore the places that were not masked: labels[~masked] = -100",
)
UNMASKED = (
    "the tokens that the loss asks for stand unmasked in the inputs",
    "replace the chosen tokens in the inputs that the model gets: input_ids[masked] = mask_id",
)


@rule(
    "targets-not-masked",
    stage="wiring",
    needs=(VISIBLE_TOKENS, COUNTED_TOKENS),
    explains=(
        "targets-not-shifted",
        "metric-disagrees-with-loss",
        "overfitting",
        "stopped-too-early",
        "train-val-shift",
    ),
)
def targets_not_masked(
    history: History, *, least: float = 0.02, nearby: float = 0.5, targets: int = 32
) -> Finding | None:
    """A masked language model is asked only for tokens that it sees.

    Why it matters: the loss falls to zero, in training and validation alike, and the model has
    learned to copy. The mask was inverted, was put into another tensor than the one that the model
    gets, or into the labels as well.

    Evidence: the loss counts some of the places alone, and at all of them the target, read off the
    gradient, is the input of that place; in a copy in eval mode, another token there changes the
    output of its place.
    Threshold: all of at least 32 targets. The places must be chosen as a mask chooses: the same
    token counted here and left out there, or left out twice in a row; or all targets are equal.
    Outputs of other places must change by less than half as much.
    False alarms: none known. Silent where one masked token in fifty is hidden, for autoencoders
    through a code (all their outputs change alike, whatever they leave out), for losses that leave
    out padding or separators alone, and for models that shift their inputs themselves.
    Convicted by: with the mask the right way round, the loss starts near ln(vocabulary).
    Source: Devlin et al. 2018, "BERT", section 3.1: the loss is that of the masked places.
    """
    facts, visible = latest(history, COUNTED_TOKENS), latest(history, VISIBLE_TOKENS)
    enough = facts.get("counted", 0.0) >= targets and facts.get("left_out", 0.0) >= 0.05
    direct = visible.get("same", 0.0) > least and visible.get("later", 1.0) < nearby
    if not (enough and direct and facts.get("seen", 0.0) == 1.0):
        return None
    if facts.get("distinct") == 1:
        summary, change = ALIASED
    elif facts.get("neighbours", 0.0) > 0:
        summary, change = INVERTED
    elif facts.get("either", 0.0) > least:
        summary, change = UNMASKED
    else:
        return None
    return Finding(
        severity="error",
        summary=f"{summary}; the model learns to copy",
        evidence={
            "targets that are the input of the same place": facts["seen"],
            "targets": facts["counted"],
            "share of the places that the loss leaves out": facts["left_out"],
        },
        prescriptions=(
            Prescription(
                change=change,
                expect="few of the targets stand in the inputs; the loss "
                "starts near ln(vocabulary) and falls more slowly",
            ),
        ),
    )
