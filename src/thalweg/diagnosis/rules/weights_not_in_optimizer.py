from thalweg.diagnosis.evidence import latest, value
from thalweg.diagnosis.rule import Finding, Prescription, Severity, rule
from thalweg.record import History
from thalweg.record.quantities import CHANGED_BESIDE, FROZEN_AT_RANDOM, HELD, STALE_WEIGHTS
from thalweg.wording import some


@rule(
    "weights-not-in-optimizer",
    stage="wiring",
    needs=(HELD, STALE_WEIGHTS),
    explains=("learning-rate-too-low", "frozen-random-weights", "gradient-never-arrives"),
)
def weights_not_in_optimizer(history: History) -> Finding | None:
    """No optimizer holds some of the trainable weights, so no step ever moves them.

    Why it matters: they ask for gradient, receive it, and stay as they were initialised. It happens
    when the optimizer is built before a layer is replaced, before the model is wrapped or moved, or
    from one part of the model only. The rest then learns around random features.

    Evidence: the identities of the model's weights and of the tensors in the optimizers' groups;
    whether the ones left out look as an initialiser leaves them.
    Threshold: exact; of those that did not change while training. An error if the optimizer holds
    as many or more tensors that are not the model's (it was built for another copy); a warning
    if the ones left out still have the distribution of an initialiser; a note if they look
    trained (a backbone frozen on purpose).
    False alarms: random features on purpose; a second optimizer that was not passed to `watch`.
    Convicted by: one update leaves exactly these weights bit for bit as they were.
    Source: PyTorch documentation, "Constructing it"; huggingface/accelerate issue 2665.
    """
    held = latest(history, HELD)
    changed = latest(history, CHANGED_BESIDE)  # by something else, such as copies that are trained
    out = [name for name, flag in held.items() if flag == 0 and changed.get(name) != 1]
    if not out:
        return None
    random = latest(history, FROZEN_AT_RANDOM)
    fresh = [name for name in out if random.get(name) == 1]
    stale = value(history, STALE_WEIGHTS)
    built_for_another = stale >= len(out) or len(out) == len(held)
    severity: Severity = "error" if built_for_another else "warning" if fresh else "note"
    return Finding(
        severity=severity,
        summary=f"{len(out)} of {len(held)} trainable weights are in no optimizer: {some(out)}"
        + ("; the optimizer holds tensors that are not the model's" if stale > 0 else ""),
        where=out[0],
        evidence={
            "left out": float(len(out)),
            "of": float(len(held)),
            "still as initialised": float(len(fresh)),
            "tensors of no model": stale if stale == stale else 0.0,
        },
        prescriptions=(
            Prescription(
                change="build the optimizer from model.parameters() after the last change to the "
                "model (layers replaced, wrapped, moved)",
                expect="every trainable weight is held",
            ),
            Prescription(
                change="if they are frozen on purpose, set requires_grad_(False) on them",
                expect="no gradient is computed for them, and steps are faster",
            ),
        ),
    )
