from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    FOREIGN_WEIGHT,
    GRAPH_LEAVES,
    HIDDEN_WEIGHT,
    RENEWED_WEIGHT,
)
from thalweg.wording import some

FEW = 2


@rule(
    "unregistered-weights",
    stage="wiring",
    needs=(GRAPH_LEAVES,),
    explains=(
        "learning-rate-too-low",
        "loss-not-falling",
        "optimisation-failure",
        "stopped-too-early",
        "training-plateau",
        "underfitting",
        "vanishing-gradients",
    ),
)
def unregistered_weights(history: History) -> Finding | None:
    """The loss depends on weights that are no parameters of the model and in no optimizer.

    Why it matters: `parameters()` lists what is registered. A layer in a Python list or dictionary,
    a plain tensor, or a layer that `forward` builds anew at each call, takes part in every pass and
    is never trained, moved to a device or saved. The rest learns around random features.

    Evidence: the leaves of the loss's graph, against the tensors of every optimizer in the process
    and the parameters of the model; the lists and attributes of the model that hold them.
    Threshold: exact. An error for weights that the model hides and that look as an initialiser left
    them, and for weights that are new in each pass. A warning for such weights of another module,
    or for one or two of any look (a loss with weights of its own); a note where they are more and
    look trained (a teacher, a critic).
    False alarms: random features on purpose; inputs that ask for gradient are not counted.
    Convicted by: one update leaves exactly these weights bit for bit as they were.
    Source: PyTorch documentation, "torch.nn.ModuleList"; exact.
    """
    renewed = sorted(history.by_place(RENEWED_WEIGHT))
    if renewed:
        return _renewed(renewed)
    hidden, foreign = latest(history, HIDDEN_WEIGHT), latest(history, FOREIGN_WEIGHT)
    if hidden:
        return _hidden(hidden)
    return _foreign(foreign) if foreign else None


def _is_untrained(weights: dict[str, float]) -> bool:
    """False if a matrix among them looks trained: a network that is left as it is on purpose."""
    return min(weights.values()) > 0


def _hidden(weights: dict[str, float]) -> Finding:
    names = sorted(weights)
    return Finding(
        severity="error" if _is_untrained(weights) else "note",
        summary=f"{len(names)} weights that the loss depends on are not registered in the model "
        f"and in no optimizer: {some(names)}",
        where=names[0],
        evidence={"weights": float(len(names))},
        prescriptions=(
            Prescription(
                change="put layers into nn.ModuleList or nn.ModuleDict and tensors into "
                "nn.Parameter, before the optimizer is built",
                expect="model.parameters() lists them, and every update moves them",
            ),
        ),
    )


def _renewed(shapes: list[str]) -> Finding:
    return Finding(
        severity="error",
        summary=f"weights of shape {some(shapes)} are made anew in each forward pass: they stay "
        "random and are never trained",
        where=shapes[0],
        evidence={"weights": float(len(shapes))},
        prescriptions=(
            Prescription(
                change="build every layer in __init__, and only call it in forward",
                expect="the same weights take part in each pass, and the optimizer holds them",
            ),
        ),
    )


def _foreign(weights: dict[str, float]) -> Finding:
    names = sorted(weights)
    few = len(names) <= FEW  # proxies, centres, a temperature: no network
    untrained = few or (_is_untrained(weights) and max(weights.values()) == 1)
    return Finding(
        severity="warning" if untrained else "note",
        summary=f"the loss depends on {len(names)} weights of another module that no optimizer "
        f"holds: shapes {some(names)}",
        where=names[0],
        evidence={"weights": float(len(names))},
        prescriptions=(
            Prescription(
                change="if they are to be trained (a loss with weights of its own), add them to "
                "the optimizer; if not (a teacher, a fixed network), set requires_grad_(False)",
                expect="every leaf of the loss that asks for gradient is held by an optimizer",
            ),
        ),
    )
