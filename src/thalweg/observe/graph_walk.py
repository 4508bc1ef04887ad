"""Walk autograd's graph from a loss to its leaves: the weights it depends on, risky operations.

The structure outlives the backward pass; no saved tensor is touched.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

MOST_NODES = 6000  # a 7B transformer has about 2,000
GUARDS = ("Add", "Sub", "Clamp", "ClampMin", "Exp", "Softplus", "Relu", "Softmax", "Sigmoid")
STEEP = {  # operations with an infinite slope, and where
    "Sqrt": "0", "Acos": "1", "Asin": "1", "Acosh": "1", "Atanh": "1",
    "LinalgEigh": "equal eigenvalues", "LinalgSvd": "equal singular values",
}  # fmt: skip
UNBOUNDED = ("Log", "Log2", "Log10", "Reciprocal", "Rsqrt", "Exp", "Div")
HIDING = ("Where", "MaskedFill")
ACCUMULATE = "torch::autograd::AccumulateGrad"


@dataclass(slots=True)
class GraphWalk:
    """The contents of a loss's graph."""

    leaves: list[Tensor] = field(default_factory=list)
    steep: set[str] = field(default_factory=set)  # sqrt and others that nothing keeps off the edge
    guarded: set[str] = field(default_factory=set)  # the same after an addition, or a clamp
    unbounded: set[str] = field(default_factory=set)  # log, division
    hiding: set[str] = field(default_factory=set)  # where: hides a NaN from the loss alone
    complete: bool = True  # False where a checkpoint hides a part, or the graph is too large


def walk_graph(loss: Any) -> GraphWalk | None:
    """Read the graph of a loss; None without one."""
    root = getattr(loss, "grad_fn", None)
    if root is None:
        return None
    walk, queue, visited = GraphWalk(), [root], {root}
    while queue:
        node = queue.pop()
        _read_node(node, walk)
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                queue.append(following)
        if len(visited) > MOST_NODES:
            walk.complete = False
            break
    return walk


def _read_node(node: Any, walk: GraphWalk) -> None:
    full = str(node.name())
    if full == ACCUMULATE:
        walk.leaves.append(node.variable)
        return
    name = full.rpartition("::")[2].partition("Backward")[0]
    if name.startswith("Checkpoint"):
        walk.complete = False
    elif name in STEEP or (name == "Pow" and _is_root(node)):
        (walk.guarded if _is_guarded(node) else walk.steep).add(name.lower())
    elif name in UNBOUNDED:
        if not _is_guarded(node):
            walk.unbounded.add(name.lower())
    elif name in HIDING:
        walk.hiding.add(name.lower())


def _is_root(node: Any) -> bool:
    """True for an exponent between 0 and 1."""
    exponent = getattr(node, "_saved_exponent", None)
    return isinstance(exponent, int | float) and 0 < exponent < 1


def _is_guarded(node: Any) -> bool:
    """True if a number was added to the input, or it was clamped: it cannot reach the edge."""
    inputs = [following for following, _ in node.next_functions if following is not None]
    if not inputs:
        return False
    source = inputs[-1]  # of a division: the divisor, where it has a gradient
    name = str(source.name()).partition("Backward")[0]
    terms = [following for following, _ in source.next_functions if following is not None]
    return name in GUARDS and (name not in ("Add", "Sub") or len(terms) == 1)
