"""Read a loss function off autograd's graph: its kind, its input and its reduction.

The structure of the graph outlives the backward pass, so this is exact and needs nothing from the
user. Names of nodes are PyTorch's own (`torch.autograd.graph.Node.name`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOST_NODES = 60  # a loss has a dozen; beyond this, the model itself is being walked
SHALLOW = 8  # nodes to read where it is not known at which one the model ends
RESHAPING = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone",
    "ToCopy", "Transpose", "Permute", "T", "Alias", "Index", "Expand", "Unbind", "Split", "Cast",
)  # fmt: skip
KEEPING_SHAPE = ("Clone", "ToCopy", "Alias", "Cast", "Expand")
ENTROPIES = ("NllLoss", "NllLoss2D", "NllLossNd")
REDUCIBLE = (
    *ENTROPIES, "MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy",
    "BinaryCrossEntropyWithLogits",
)  # fmt: skip
SCALING = ("Add", "Sub", "Mul", "Div", "Neg", "ToCopy")
SUM = 2  # ATen's code of reduction="sum"
RESCALED = "thalweg: not part of the loss"  # in a node's metadata


@dataclass(frozen=True, slots=True)
class LossGraph:
    """The loss function as the graph shows it; "" for what it does not show."""

    kind: str  # "cross_entropy", "nll_of_log", "nll_of_probability", "mse", "l1", "bce", …
    applied_to: str  # the operation that made the loss function's input: "softmax", "sigmoid", …
    summed: bool  # whether the last operation is a sum over more than the classes
    broadcast: bool  # whether the model's output had to be expanded to meet the targets
    reshaped: bool  # whether the loss function gave the model's output another shape first
    composed: bool = False  # whether the loss is a sum of terms, of which `kind` is one


def read_graph(loss: Any, output_node: Any) -> LossGraph | None:
    """Read the graph between a loss and the model's output; None without a graph."""
    root = getattr(loss, "grad_fn", None)
    while root is not None and RESCALED in root.metadata:
        root = _next(root)
    if root is None:
        return None
    nodes = list(_walk(root, output_node))
    names = [_name(node) for node in nodes]
    kind, core = _kind(nodes, names)
    return LossGraph(
        kind=kind,
        applied_to=_input_operation(core) if core is not None else "",
        summed=_summed(nodes[0], names[0]),
        broadcast="Expand" in names and kind in ("mse", "l1", "smooth_l1"),
        reshaped=any(
            name in RESHAPING and name not in KEEPING_SHAPE
            for node, name in zip(nodes, names, strict=True)
            if node is not output_node
        ),
        composed=_composed(root),
    )


def mark_rescaled(loss: Tensor, operations: int = 1) -> None:
    """Leave the last operations out of the loss: a division by the batches of an update."""
    node: Any = loss.grad_fn
    for _ in range(operations):
        if node is not None:
            node.metadata[RESCALED] = True
            node = _next(node)


def with_value(loss: Tensor, value: Tensor) -> Tensor:
    """A tensor of that value with the loss's graph; not to be differentiated."""
    with torch.enable_grad():
        revalued: Tensor = _WithValue.apply(loss, value)  # type: ignore[no-untyped-call]
    mark_rescaled(revalued)
    return revalued


class _WithValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, value: Tensor) -> Tensor:
        return value.clone()


def operation_name(node: Any) -> str:
    """The operation that made a tensor, through any reshapes: "softmax", "relu"."""
    for _ in range(8):
        if node is None or _name(node) not in RESHAPING:
            break
        node = _next(node)
    return "" if node is None else _name(node).lower()


def _walk(root: Any, stop: Any) -> Iterator[Any]:
    """Nodes from the loss down to the model's output, breadth first."""
    queue, visited = [root], {root}
    most = MOST_NODES if stop is not None else SHALLOW
    while queue and len(visited) < most:
        node = queue.pop(0)
        yield node
        if node is stop:
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                queue.append(following)


def _name(node: Any) -> str:
    return str(node.name()).rpartition("::")[2].partition("Backward")[0]


def _next(node: Any) -> Any:
    return next((following for following, _ in node.next_functions if following is not None), None)


def _input_operation(node: Any) -> str:
    return operation_name(_next(node))


def _kind(nodes: list[Any], names: list[str]) -> tuple[str, Any]:
    """The loss function's name and the node whose input is what the loss was applied to."""
    by_name = dict(zip(reversed(names), reversed(nodes), strict=True))  # the outermost wins
    for node, name in zip(nodes, names, strict=True):
        if name in ENTROPIES:
            return _entropy(node)
        if name in PLAIN:
            return PLAIN[name], node
    if "LogSoftmax" in by_name:  # targets given as probabilities, label smoothing
        return "cross_entropy", by_name["LogSoftmax"]
    if "Log" in by_name and _input_operation(by_name["Log"]) in ("softmax", "sigmoid"):
        return "nll_of_log", by_name["Log"]
    if "Sub" in by_name and names[0] in ("Mean", "Sum", "Sqrt", "Div"):
        difference = by_name["Sub"]
        if "Pow" in by_name or any(_squares(node) for node in nodes):
            return "mse", difference
        if "Abs" in by_name:
            return "l1", difference
    return "", None


PLAIN = {
    "MseLoss": "mse",
    "SmoothL1Loss": "smooth_l1",
    "HuberLoss": "smooth_l1",
    "BinaryCrossEntropy": "bce",
    "BinaryCrossEntropyWithLogits": "bce_with_logits",
    "KlDiv": "kl_div",
    "CtcLoss": "ctc",
}


def _entropy(node: Any) -> tuple[str, Any]:
    source = _next(node)
    while source is not None and _name(source) in RESHAPING:
        source = _next(source)
    name = "" if source is None else _name(source)
    if name == "LogSoftmax":
        return "cross_entropy", source
    if name == "Log":
        return "nll_of_log", source
    return ("nll_of_probability" if name in ("Softmax", "Sigmoid") else "nll"), node


def _squares(node: Any) -> bool:
    """True if a product is of a tensor with itself."""
    factors = [following for following, _ in node.next_functions]
    return _name(node) == "Mul" and len(factors) == 2 and factors[0] is factors[1] is not None


def _composed(root: Any) -> bool:
    """True if two terms with gradient are added between the loss and its function."""
    node = root
    while node is not None and _name(node) in SCALING:
        terms = [following for following, _ in node.next_functions if following is not None]
        if len(terms) != 1:
            return _name(node) in ("Add", "Sub") and len(terms) > 1
        node = terms[0]
    return False


def _summed(root: Any, name: str) -> bool:
    if name == "Neg":  # of a likelihood by hand
        return _summed(_next(root), _name(_next(root)))
    if name in REDUCIBLE:
        return getattr(root, "_saved_reduction", 1) == SUM
    return name == "Sum"
