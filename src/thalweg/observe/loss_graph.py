"""Read a loss function off autograd's graph: its kind, its input and its reduction.

The structure of the graph outlives the backward pass, so this is exact and needs nothing from the
user. Names of nodes are PyTorch's own (`torch.autograd.graph.Node.name`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from thalweg.observe.ddp_outputs import operands, root_node
from thalweg.observe.pairs_in_loss import Shape, compares_all_pairs
from thalweg.observe.pairs_in_loss import node_name as _name
from thalweg.observe.pairs_in_loss import result_shape as _shape

MOST_NODES = 60  # a loss has a dozen; beyond this, the model itself is being walked
SHALLOW = 8  # nodes to read where it is not known at which one the model ends
RESHAPING = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone",
    "ToCopy", "Transpose", "Permute", "T", "Alias", "Index", "Expand", "Unbind", "Split", "Cast",
)  # fmt: skip
KEEPING_SHAPE = ("Clone", "ToCopy", "Alias", "Cast", "Expand")
NOT_NEGATIVE = ("Exp", "Softmax", "Sigmoid", "Softplus", "Relu", "Abs")
SHIFTED = ("Add", "Clamp", "ClampMin")  # a sum that is kept away from zero
ENTROPIES = ("NllLoss", "NllLoss2D", "NllLossNd")
REDUCIBLE = (
    *ENTROPIES, "MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy",
    "BinaryCrossEntropyWithLogits",
)  # fmt: skip
SCALING = ("Add", "Sub", "Mul", "Div", "Neg", "ToCopy")
AVERAGING = ("Mean", "Sum", "Div", "ToCopy", "View", "Squeeze")
SUM = 2  # ATen's code of reduction="sum"
RESCALED = "thalweg: not part of the loss"  # in a node's metadata


@dataclass(frozen=True, slots=True)
class LossGraph:
    """The loss function as the graph shows it; "" for what it does not show."""

    kind: str  # "cross_entropy", "nll_of_log", "nll_of_probability", "mse", "l1", "bce", …
    applied_to: str  # the operation that made the loss function's input: "softmax", "sigmoid", …
    summed: bool  # whether the last operation is a sum over more than the classes
    broadcast: bool  # whether N outputs met N targets as N×N, by accident
    reshaped: bool  # whether the loss function gave the model's output another shape first
    summed_entries: int = 0  # numbers that the last operation adds up; 0 where it is not known
    composed: bool = False  # whether the loss is a sum of terms, of which `kind` is one
    bare: bool = False  # whether the loss is the mean or the sum of that function, and no more
    takes_output: bool = False  # whether its input is the model's output, reshaped at most


def read_graph(loss: Any, output_node: Any) -> LossGraph | None:
    """Read the graph between a loss and the model's output; None without a graph."""
    root = _root(loss)
    if root is None:
        return None
    nodes = list(_walk(root, output_node))
    names = [_name(node) for node in nodes]
    kind, core = _kind(nodes, names)
    return LossGraph(
        kind=kind,
        applied_to=_input_operation(core) if core is not None else "",
        summed=_summed(nodes[0], names[0]),
        broadcast=compares_all_pairs(root),
        reshaped=any(
            name in RESHAPING and name not in KEEPING_SHAPE
            for node, name in zip(nodes, names, strict=True)
            if node is not output_node
        ),
        summed_entries=_summed_entries(nodes[0]),
        composed=_composed(root),
        bare=_bare(root),
        takes_output=core is not None and _takes_output(core, output_node),
    )


def loss_nodes(loss: Any, output_node: Any) -> Iterator[Any]:
    """Nodes from a loss down to the model's output, breadth first."""
    root = _root(loss)
    return iter(()) if root is None else _walk(root, output_node)


def _root(loss: Any) -> Any:
    root = root_node(loss)
    while root is not None and RESCALED in root.metadata:
        root = _next(root)
    return root


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
    """The operation that made a tensor, through any reshapes: "softmax", "relu".

    Several operations that are a softmax together are one: exp(log_softmax(x)), exp(x) / Σ exp(x).
    "quotient" is a division by numbers that depend on weights.
    """
    node = _before_reshapes(node)
    if node is None:
        return ""
    if _name(node) == "Exp":
        source = _before_reshapes(_next(node))
        return "softmax" if source is not None and _name(source) == "LogSoftmax" else "exp"
    if _name(node) == "Div":
        return _division_name(node)
    return _name(node).lower()


def _before_reshapes(node: Any) -> Any:
    for _ in range(8):
        if node is None or _name(node) not in RESHAPING:
            break
        node = _next(node)
    return node


def _division_name(division: Any) -> str:
    """Tell a division by a number from one by the sum of what is divided: rows that sum to 1."""
    inputs = operands(division)  # a number is none
    if len(inputs) != 2 or prod(_shape(inputs[1])) == 1:
        return "div"
    numerator, denominator = inputs
    while denominator is not None and _name(denominator) in (*RESHAPING, *SHIFTED):
        denominator = _next(denominator)
    sums = denominator is not None and _name(denominator) == "Sum"
    if sums and _next(denominator) is numerator and _name(numerator) in NOT_NEGATIVE:
        return "softmax"
    return "quotient"


def _takes_output(core: Any, output_node: Any) -> bool:
    """True if only reshapes lie between the model's output and a loss function's node."""
    node = _next(core)
    while node is not None and node is not output_node and _name(node) in RESHAPING:
        node = _next(node)
    return node is not None and node is output_node


def _walk(root: Any, stop: Any) -> Iterator[Any]:
    """Nodes from the loss down to the model's output, breadth first."""
    queue, visited = [root], {root}
    most = MOST_NODES if stop is not None else SHALLOW
    while queue and len(visited) < most:
        node = queue.pop(0)
        yield node
        if node is stop:
            continue
        for following in operands(node):
            if following not in visited:
                visited.add(following)
                queue.append(following)


def _next(node: Any) -> Any:
    return next(iter(operands(node)), None)


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
    divergence = next((node for node in nodes if divergence_term(node) is not None), None)
    if divergence is not None:
        return "kl_div", divergence_term(divergence)
    if "Log" in by_name and _input_operation(by_name["Log"]) in ("softmax", "sigmoid"):
        return "nll_of_log", by_name["Log"]
    if "Sub" in by_name and names[0] in ("Mean", "Sum", "Sqrt", "Div"):
        difference = by_name["Sub"]
        if "Pow" in by_name or any(_squares(node) for node in nodes):
            return "mse", difference
        if "Abs" in by_name:
            return "l1", difference
    return "", None


def divergence_term(node: Any) -> Any:
    """The node of t·x in t·log t − t·x, with x alone dependent on weights: F.kl_div(x, t)."""
    if node is None or _name(node) != "Sub" or not _shape(node):
        return None
    operands = [following for following, _ in node.next_functions]
    if len(operands) != 2 or operands[0] is not None or operands[1] is None:
        return None
    product = operands[1]
    factors = [one for one, _ in product.next_functions]
    if _name(product) != "Mul" or len(factors) != 2 or factors[0] is not None:
        return None
    return product if _shape(product) == _shape(node) else None


def ignored_index(loss: Any, output_node: Any) -> int | None:
    """The class number that a loss's cross-entropy leaves out; None without a cross-entropy."""
    for node in loss_nodes(loss, output_node):
        if _name(node) in ENTROPIES and hasattr(node, "_saved_ignore_index"):
            index = int(node._saved_ignore_index)
            return index - 2**64 if index >= 2**63 else index
    return None


def label_smoothing(loss: Any, output_node: Any) -> float:
    """The share that F.cross_entropy spreads over all classes: 1 − the factor of its first term."""
    for node in loss_nodes(loss, output_node):
        if _name(node) != "Add":
            continue
        terms = [one for one, _ in node.next_functions if one is not None]
        factors = [_saved_factor(one) for one in terms]
        if len(terms) == 2 and all(isinstance(factor, float) for factor in factors):
            sharp, spread = (_name(_next(one)) for one in terms)
            if sharp in ENTROPIES and spread in ("Div", "Sum", "Mean"):
                return 1 - float(factors[0] or 0)
    return 0.0


def _saved_factor(node: Any) -> Any:
    """The other factor of a product; None for a tensor, which the backward pass may have freed."""
    try:
        return getattr(node, "_saved_other", None)
    except RuntimeError:
        return None


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
        terms = operands(node)
        if len(terms) != 1:
            return _name(node) in ("Add", "Sub") and len(terms) > 1
        node = terms[0]
    return False


def _bare(root: Any) -> bool:
    """True if only means, sums and divisions lie between a loss and its function."""
    node = root
    while node is not None and _name(node) in AVERAGING:
        node = _next(node)
    return node is not None and (_name(node) in PLAIN or _name(node) in ENTROPIES)


def _summed(root: Any, name: str) -> bool:
    if name == "Neg":  # of a likelihood by hand
        return _summed(_next(root), _name(_next(root)))
    if name in REDUCIBLE:
        return getattr(root, "_saved_reduction", 1) == SUM
    return name == "Sum" and not _stacks_tasks(_next(root))


def _stacks_tasks(node: Any) -> bool:
    """True for numbers of several kinds in a row: the losses of several tasks, not of samples."""
    if node is None or _name(node) != "Stack":
        return False
    terms = [term for term, _ in node.next_functions if term is not None]
    return all(_shape(term) == () for term in terms) and len(set(map(_name, terms))) > 1


def _summed_entries(root: Any) -> int:
    """The size of the tensor that the last operation reduces."""
    source = _next(root)
    if _name(root) == "Neg" and source is not None:
        return _summed_entries(source)
    return 0 if source is None else prod(_shape(source))


VIEWS = ("View", "UnsafeView", "ReshapeAlias")
DEEPEST = 12  # nodes from the softmax down: the view may stand at the end of the model


def views_before_softmax(loss: Any, output_node: Any) -> list[tuple[Shape, Shape]] | None:
    """The shapes before and after each reshape whose result goes into the loss's log-softmax.

    None where no softmax over rows is seen.
    """
    root = root_node(loss)
    nodes = () if root is None else _walk(root, output_node)
    node = next((one for one in nodes if _name(one) == "LogSoftmax"), None)
    if node is None or len(_shape(node)) != 2:
        return None
    views: list[tuple[Shape, Shape]] = []
    for _ in range(DEEPEST):
        following = _next(node)
        if following is None or (_name(node) not in RESHAPING and _name(node) != "LogSoftmax"):
            break
        if _name(node) in VIEWS:
            views.append((_shape(following), _shape(node)))
        node = following
    return views
