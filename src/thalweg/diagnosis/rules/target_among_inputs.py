from thalweg.diagnosis.evidence import value
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import TARGET_AMONG_INPUTS


@rule(
    "target-among-inputs",
    stage="data",
    needs=(TARGET_AMONG_INPUTS,),
    explains=("overfitting", "train-val-shift"),
)
def target_among_inputs(history: History) -> Finding | None:
    """The value to be predicted is one of the inputs.

    Why it matters: a window of a series that ends one step too late, or a table whose target
    column stayed among the features, lets the model copy. Training and validation losses are
    excellent, and the model is worthless where the value is not known yet.

    Evidence: for each of some samples, one and the same input gives the target, up to scale and
    offset. Of a model that also gets a noise level for each sample, all of the input against all
    of the target.
    Threshold: exact to single precision, in 8 to 128 samples with 6 different targets or more.
    False alarms: a task that is to copy or rescale a number, as in a test.
    Convicted by: without that input, the loss is far higher.
    Source: Kaufman, Rosset and Perlich 2012, "Leakage in data mining".
    """
    if value(history, TARGET_AMONG_INPUTS, "whole") == 1:
        return Finding(
            severity="warning",
            summary="the target is the model's own input: the network learns to copy, whatever the "
            "noise level that it also gets",
            prescriptions=(
                Prescription(
                    change="compare the output with the noise that was added (or with the clean "
                    "sample), not with the noisy sample",
                    expect="a higher loss, and samples that look like the data",
                ),
            ),
        )
    if value(history, TARGET_AMONG_INPUTS) != 1:
        return None
    return Finding(
        severity="warning",
        summary="the target is one of the inputs: one of them gives it exactly",
        prescriptions=(
            Prescription(
                change="take the target out of the inputs: end the window of a series one step "
                "earlier, or leave out the target's column",
                expect="a higher loss, which is that of a real prediction",
            ),
        ),
    )
