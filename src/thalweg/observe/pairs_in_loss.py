"""Find accidental pairs of samples in a loss: N numbers against N×1 broadcast to N×N.

Shapes of results stay in autograd's graph after the backward pass. Pairs that a program forms on
purpose show an inserted or transposed dimension, another function of the differences (a hinge, a
kernel), or a reduction of one dimension alone; an accident is averaged as a whole.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

from thalweg.observe.ddp_outputs import operands

Shape = tuple[int, ...]

FEWEST = 4  # samples: smaller sizes coincide with others
MOST_NODES = 200
INSERTED = ("Unsqueeze", "Index", "T", "Transpose", "Permute", "Mt", "Expand", "Repeat")
ALIASES = ("Clone", "ToCopy", "Alias", "Cast", "Neg")
JOINS = ("Sub", "Add", "Mul", "Div", "MseLoss", "SmoothL1Loss", "HuberLoss", "Rsub")
AVERAGES = ("Mean", "Sum", "MseLoss", "SmoothL1Loss", "HuberLoss")
# Functions under which the average over all pairs depends on the mean of the targets alone, or on
# their median: nobody forms pairs for that.
DIFFERENCES = (*JOINS, *ALIASES, "Pow", "Abs", "Sqrt")
PIECEWISE = ("Where", "Clamp", "ClampMin", "ClampMax", "Minimum", "Maximum", "Exp")


def node_name(node: Any) -> str:
    """The operation of a node of the graph: "Mul", "MseLoss"."""
    return str(node.name()).rpartition("::")[2].partition("Backward")[0]


def result_shape(node: Any) -> Shape:
    """The shape of an operation's result; empty where it gave several."""
    results = node._input_metadata
    return tuple(results[0].shape) if len(results) == 1 else ()


def compares_all_pairs(root: Any) -> bool:
    """True if N samples meet N others by accident, in a loss that averages over all N×N."""
    accident = False
    for average in _averages(root):
        for node, piecewise in _elementwise(average):
            if node_name(node) not in JOINS:
                continue
            if _is_on_purpose(node):
                return False
            accident |= _is_accident(node, piecewise=piecewise)
    return accident


def _averages(root: Any) -> Iterator[Any]:
    """The nodes that reduce whole tensors to the numbers that the loss adds up."""
    queue, visited = [root], {root}
    while queue and len(visited) < MOST_NODES:
        node = queue.pop(0)
        if prod(result_shape(node)) != 1:
            continue
        if node_name(node) in AVERAGES:
            yield node
        for following in operands(node):
            if following not in visited:
                visited.add(following)
                queue.append(following)


def _elementwise(average: Any) -> Iterator[tuple[Any, bool]]:
    """Nodes of pairs below an average, and if a function other than a difference lies between."""
    reduces = node_name(average) not in ("Mean", "Sum")
    queue = [(average, False)] if reduces else [(node, False) for node in operands(average)]
    visited = {id(node) for node, _ in queue}
    while queue and len(visited) < MOST_NODES:
        node, piecewise = queue.pop(0)
        name = node_name(node)
        if node is not average and not _is_square(result_shape(node)):
            continue
        if name not in DIFFERENCES and name not in PIECEWISE:
            continue
        yield node, piecewise
        for following in operands(node):
            if id(following) not in visited:
                visited.add(id(following))
                queue.append((following, piecewise or name in PIECEWISE))


def _is_square(shape: Shape) -> bool:
    return len(shape) >= 2 and shape[0] == shape[1] >= FEWEST


def _broadcast_operands(node: Any) -> tuple[Shape, list[Any]]:
    """The shape of a join's pairs, and the operands of fewer dimensions or of length 1."""
    sources = [_unexpanded(operand) for operand in operands(node)]
    shape = result_shape(node)
    if not _is_square(shape):  # a loss function of PyTorch reduces by itself
        shape = max((result_shape(one) for one in operands(node)), key=len, default=())
    return shape, [one for one in sources if result_shape(one) != shape]


def _unexpanded(node: Any) -> Any:
    """The source of a tensor that a loss function expanded to the shape of its targets."""
    return operands(node)[0] if node_name(node) == "Expand" else node


def _is_column(shape: Shape, pairs: Shape) -> bool:
    return shape == (pairs[0], 1, *pairs[2:])


def _is_flat(shape: Shape, pairs: Shape) -> bool:
    return shape == pairs[1:]


def _is_on_purpose(node: Any) -> bool:
    """True if one side got its dimension of length 1 from the program: x[:, None], x.T."""
    shape, sides = _broadcast_operands(node)
    if not _is_square(shape):
        return False
    return any(_is_inserted(side, shape) for side in sides)


def _is_inserted(node: Any, pairs: Shape) -> bool:
    """True for a row, or for a column made from a vector, through what keeps the shape."""
    if result_shape(node) == (1, *pairs[1:]):
        return True
    while node_name(node) in (*ALIASES, *JOINS, "Pow", "Exp", "Log", "Sqrt"):
        inputs = [one for one in operands(node) if result_shape(one) == result_shape(node)]
        if not inputs:
            return False
        node = inputs[0]
    name = node_name(node)
    if name in ("View", "UnsafeView", "ReshapeAlias"):
        source = operands(node)[0]
        return len(result_shape(source)) < len(result_shape(node))
    return name in INSERTED and _is_column(result_shape(node), pairs)


def _is_accident(node: Any, *, piecewise: bool) -> bool:
    shape, sides = _broadcast_operands(node)
    if not _is_square(shape) or any(node_name(side) == "AccumulateGrad" for side in sides):
        return False
    columns = [side for side in sides if _is_column(result_shape(side), shape)]
    flat = [side for side in sides if _is_flat(result_shape(side), shape)]
    if len(operands(node)) == 1:  # the other side has no gradient: targets, rewards
        return bool(columns or flat)
    return bool(columns and flat) and not piecewise and _origin(columns[0]) is not _origin(flat[0])


def _origin(node: Any) -> Any:
    """The node that gave a tensor its values, through reshapes."""
    reshapes = (*INSERTED, *ALIASES, "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Select")
    while node_name(node) in reshapes and operands(node):
        node = operands(node)[0]
    return node
