from thalweg.diagnosis.evidence import curve
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import IDENTICAL_PASSES

LEAST = 3  # readings


@rule(
    "identical-passes",
    stage="wiring",
    needs=(IDENTICAL_PASSES,),
    explains=("loss-not-falling", "stopped-too-early", "output-ignores-inputs"),
)
def identical_passes(history: History) -> Finding | None:
    """The loss compares two outputs of the model that are always the same, bit for bit.

    Why it matters: two views of a sample, or two passes with dropout, are to be alike and never the
    same. Where the same view goes in twice (an augmentation computed once, or dropout switched
    off), their agreement costs nothing, and the model learns nothing from it.

    Evidence: the outputs of the passes of one step that meet in one operation of the loss's graph
    before they are reduced, and that have other values for each sample.
    Threshold: exact: equal at each of three readings or more.
    False alarms: none known; one input that is passed twice for two losses, which are then added,
    is none.
    Convicted by: the inputs of both passes are equal.
    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning" (two random views);
    Gao et al. 2021, "SimCSE" (dropout as the only difference: without it, the training collapses).
    """
    equal = curve(history, IDENTICAL_PASSES).values
    if len(equal) < LEAST or not (equal == 1).all():
        return None
    return Finding(
        severity="error",
        summary="the loss compares two outputs of the model that are bit for bit the same: "
        "the same view goes in twice",
        evidence={"readings": float(len(equal))},
        prescriptions=(
            Prescription(
                change="augment twice, once for each pass (view_1 = augment(x), view_2 = "
                "augment(x)); where dropout is the difference, call model.train()",
                expect="outputs of the two passes differ, and the loss starts higher",
            ),
        ),
    )
