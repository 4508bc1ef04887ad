"""The leaves of the loss's graph, against the weights that the optimizers hold."""

from collections.abc import Mapping

from torch import Tensor, nn

from thalweg.observe.forward_pass import tensors
from thalweg.observe.graph_walk import GraphWalk, walk_graph
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.frozen_weights import looks_initialised
from thalweg.observe.instruments.gradient_flow import held_weights
from thalweg.observe.unregistered import (
    hidden_weights,
    is_made_in_forward,
    weights_of_all_optimizers,
)
from thalweg.record import Quantity
from thalweg.record.quantities import (
    FOREIGN_WEIGHT,
    GRAPH_LEAVES,
    HIDDEN_WEIGHT,
    RENEWED_WEIGHT,
    RISKY_OPERATION,
)

READINGS = 3  # the graph seldom changes later
MATRIX = 64  # entries from which a matrix shows if it was trained


@instrument(
    GRAPH_LEAVES,
    HIDDEN_WEIGHT,
    RENEWED_WEIGHT,
    FOREIGN_WEIGHT,
    RISKY_OPERATION,
    when="loss",
    rare=True,
)
def graph_leaves(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Leaves that no optimizer holds, by who owns them; operations that can turn NaN.

    Cost: some microseconds a node of the graph, at three readings.
    """
    if len(moment.history.series(GRAPH_LEAVES)) >= READINGS:
        return {}
    walk = walk_graph(moment.loss)
    if walk is None:
        return {}
    measured: dict[Quantity, Measurements] = {RISKY_OPERATION: _risky_operations(walk)}
    held = held_weights(moment)
    if not any(id(leaf) in held for leaf in walk.leaves) or any(map(_is_spread, walk.leaves)):
        return measured  # the optimizer holds other copies, or the ranks hold shards
    measured[GRAPH_LEAVES] = {"": float(len(walk.leaves))}
    return measured | _outside(moment, walk.leaves, held)


def _risky_operations(walk: GraphWalk) -> dict[str, float]:
    kinds = ("steep", "guarded", "unbounded", "hiding")
    places = {f"{kind}: {name}": 1.0 for kind in kinds for name in getattr(walk, kind)}
    return places or {"none": 1.0}


def _outside(moment: Moment, leaves: list[Tensor], held: set[int]) -> dict[Quantity, Measurements]:
    """The leaves that are neither held, nor the model's own, nor inputs."""
    forward = moment.forward
    inputs = () if forward is None else tensors((forward.inputs, forward.keywords))
    inside = held | {id(w) for w in moment.model.parameters()} | {id(each) for each in inputs}
    outside = [leaf for leaf in leaves if id(leaf) not in inside]
    if not outside:
        return {}
    names, all_held = hidden_weights(moment.model), weights_of_all_optimizers()
    free = [leaf for leaf in outside if id(leaf) not in all_held]
    batch = 0 if forward is None else forward.batch_size
    hidden = [w for w in free if id(w) in names and not _is_data(w, batch)]
    strangers = [w for w in free if isinstance(w, nn.Parameter) and id(w) not in names]
    renewed = [weight for weight in strangers if is_made_in_forward(weight)]
    renewed_ids = {id(weight) for weight in renewed}
    foreign = [weight for weight in strangers if id(weight) not in renewed_ids]
    return {
        HIDDEN_WEIGHT: {names[id(w)]: _is_random(w) for w in hidden},
        RENEWED_WEIGHT: {_shape(w): float(w.numel()) for w in renewed},
        FOREIGN_WEIGHT: {_shape(w): _is_random(w) for w in foreign},
    }


def _is_spread(leaf: Tensor) -> bool:
    return hasattr(leaf, "device_mesh") or type(leaf).__name__ == "FlatParameter"


def _is_data(leaf: Tensor, batch: int) -> bool:
    """True for a plain tensor with a row for each sample, as the points of a physics loss."""
    plain = not isinstance(leaf, nn.Parameter)
    return plain and leaf.ndim > 0 and len(leaf) in (batch, batch // 2) and len(leaf) > 1


def _is_random(weight: Tensor) -> float:
    """1 where a matrix looks as an initialiser left it; 0.5 where it is too small to tell."""
    if weight.ndim < 2 or weight.numel() < MATRIX:
        return 0.5
    return float(looks_initialised(weight.detach()))


def _shape(weight: Tensor) -> str:
    return "×".join(map(str, weight.shape)) or "a number"
