"""Find what reaches each loss function of a graph, one of several too: "cross_entropy: softmax".

Structure and whole numbers alone: both outlive the backward pass.
"""

from collections.abc import Iterator
from typing import Any

from thalweg.observe.ddp_outputs import operands
from thalweg.observe.loss_graph import (
    ENTROPIES,
    PLAIN,
    RESHAPING,
    divergence_term,
    loss_nodes,
    operation_name,
)
from thalweg.observe.pairs_in_loss import Shape, node_name, result_shape

WRONG_AXIS = "another axis"  # of a log-softmax: not the one that holds the classes
CLAMPED_SCORES = "clamped scores"  # of a linear layer or a convolution: no slope outside
AVERAGED = "averaged over the classes too"
AFFINE = ("addmm", "mm", "linear", "convolution", "bmm", "add")
CLAMPS = ("Clamp", "ClampMin", "ClampMax", "Hardtanh")
SAME_AXES = ("Clone", "ToCopy", "Alias", "Cast")
VIEWS = ("View", "UnsafeView", "ReshapeAlias")


def loss_arguments(loss: Any, output_node: Any) -> set[str]:
    """Each loss function between a loss and the model's output, with what it is applied to."""
    arguments: set[str] = set()
    for node in loss_nodes(loss, output_node):
        arguments.update(_arguments(node))
    return arguments


def _arguments(node: Any) -> Iterator[str]:
    name = node_name(node)
    if name == "LogSoftmax":
        yield f"cross_entropy: {_source_name(node)}"
    elif name in ENTROPIES:
        source = operation_name(_next(node))
        if source in ("softmax", "sigmoid"):
            yield f"nll: {source}"
        elif source == "logsoftmax" and _is_other_axis(node):
            yield f"cross_entropy: {WRONG_AXIS}"
    elif name in PLAIN:
        yield f"{PLAIN[name]}: {_source_name(node)}"
    elif (term := divergence_term(node)) is not None:
        yield f"kl_div: {_source_name(term)}"
    if name == "Mean" and (term := divergence_term(_next(node))) is not None:
        columns = result_shape(term)[1:]
        if columns and _source_name(term) == "logsoftmax":
            yield f"kl_div: {AVERAGED}"


def _next(node: Any) -> Any:
    return next(iter(operands(node)), None)


def _source_name(node: Any) -> str:
    source = _next(node)
    name = operation_name(source)
    if name not in [one.lower() for one in CLAMPS]:
        return name
    while source is not None and node_name(source) in (*RESHAPING, *CLAMPS):
        source = _next(source)
    within = "" if source is None else node_name(source).lower()
    return CLAMPED_SCORES if within in AFFINE else name


def _is_other_axis(entropy: Any) -> bool:
    """True if the log-softmax below runs over another axis than the one of the classes."""
    node = _next(entropy)
    axis: int | None = min(1, len(result_shape(node)) - 1)
    while axis is not None and node_name(node) != "LogSoftmax":
        following = _next(node)
        if following is None:
            return False
        axis = _axis_before(node, axis, result_shape(following))
        node = following
    if axis is None or len(result_shape(node)) < 2:
        return False
    return _signed(node._saved_dim) % len(result_shape(node)) != axis


def _axis_before(node: Any, axis: int, before: Shape) -> int | None:
    """The axis of the classes in the operand of a reshape; None where it cannot be followed."""
    name, after = node_name(node), result_shape(node)
    if name in SAME_AXES:
        return axis
    if name in VIEWS:
        if axis == len(after) - 1 and before[-1:] == after[-1:]:
            return len(before) - 1
        return axis if before[: axis + 1] == after[: axis + 1] else None
    if name == "T" and len(after) == 2:
        return 1 - axis
    if name == "Transpose":
        size = len(after)
        pair = [_signed(node._saved_dim0) % size, _signed(node._saved_dim1) % size]
        return pair[1 - pair.index(axis)] if axis in pair else axis
    if name == "Permute":
        return int(_signed(node._saved_dims[axis]) % len(after))
    return None


def _signed(dim: int) -> int:
    """Negative dimensions come out of a node as unsigned 64-bit numbers."""
    return dim - 2**64 if dim >= 2**63 else dim
