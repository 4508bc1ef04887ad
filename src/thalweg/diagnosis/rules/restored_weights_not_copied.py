from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import RESTORED_ITSELF


@rule(
    "restored-weights-not-copied",
    stage="wiring",
    needs=(RESTORED_ITSELF,),
    explains=("metric-disagrees-with-loss", "overfitting"),
)
def restored_weights_not_copied(history: History) -> Finding | None:
    """The weights that are restored are those that the model has: the best ones were never copied.

    Why it matters: `model.state_dict()` refers to the weights. Kept as "the best so far" without a
    copy, it follows every later update; what is restored in the end, or saved as the best, is the
    last state.

    Evidence: the tensors given to the model's `load_state_dict`, by their place in memory.
    Threshold: all of them are the model's own parameters, after an update or more.
    False alarms: none are known; to load a model's own weights does nothing.
    Convicted by: with a copy, the validation score after restoring is the best one that was logged.
    Source: PyTorch documentation, "Saving and loading models": best_model_state =
    deepcopy(model.state_dict()).
    """
    loads = history.series(RESTORED_ITSELF)
    own = [step for step, itself in loads.items() if itself == 1]
    if not own:
        return None
    return Finding(
        severity="warning",
        summary="load_state_dict was given the model's own weights"
        + (f", at {len(own)} of {len(loads)} calls" if len(loads) > 1 else "")
        + ": what was kept refers to them, and nothing is restored",
        evidence={"calls that restored nothing": len(own), "calls": len(loads)},
        prescriptions=(
            Prescription(
                change="copy what is kept: best = copy.deepcopy(model.state_dict())",
                expect="after restoring, the best validation score that was logged",
            ),
        ),
    )
