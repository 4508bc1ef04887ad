"""Find the latents of a variational autoencoder in the graph of a loss: a mean with noise on it.

Names and shapes of autograd's nodes outlive the backward pass; no saved tensor is touched.
"""

from typing import Any

from thalweg.observe.ddp_outputs import operands, root_node
from thalweg.observe.pairs_in_loss import node_name, result_shape

MOST_NODES = 3000
SUMS = ("Add", "Sub")
SCALES = ("Exp", "Softplus", "Sqrt", "Sigmoid", "Exp2", "Elu")  # they make a std positive
BETWEEN = ("Mul", "Div", "Add", "Clamp", "ClampMin", "ClampMax", "Expand", "Clone", "ToCopy")
DEEPEST = 4  # nodes between the product with the noise and what makes the std positive


def penalises_noisy_latents(loss: Any, output_node: Any) -> bool:
    """True if the output comes from μ + σ·ε, and the loss has a term of μ beside the output."""
    root = root_node(loss)
    if root is None or output_node is None or root is output_node:
        return False
    means = [mean for node in _nodes_below(output_node) if (mean := _mean(node)) is not None]
    if not means:
        return False
    beside = _nodes_below(root, past=output_node)
    return any(mean in beside for mean in means)


def _nodes_below(root: Any, *, past: Any = None) -> set[Any]:
    """The nodes of a graph, less those that are reached through `past` alone."""
    visited, queue = {root}, [root]
    while queue and len(visited) < MOST_NODES:
        for following in operands(queue.pop()):
            if following is not past and following not in visited:
                visited.add(following)
                queue.append(following)
    return visited


def _mean(node: Any) -> Any:
    """The node of μ where this one adds σ·ε to it, else None."""
    operands = [one for one, _ in node.next_functions]
    if node_name(node) not in SUMS or len(operands) != 2 or None in operands:
        return None
    shape = result_shape(node)
    if len(shape) < 2 or any(result_shape(one) not in (shape, ()) for one in operands):
        return None
    for noise, mean in (operands, operands[::-1]):
        if _is_scaled_noise(noise):
            return mean
    return None


def _is_scaled_noise(node: Any) -> bool:
    """True for the product of a positive scale and a tensor without gradient."""
    operands = [one for one, _ in node.next_functions]
    if node_name(node) != "Mul" or len(operands) != 2 or operands.count(None) != 1:
        return False
    scale = next(one for one in operands if one is not None)
    for _ in range(DEEPEST):
        if node_name(scale) in SCALES:
            return True
        inputs = [one for one, _ in scale.next_functions if one is not None]
        if node_name(scale) not in BETWEEN or len(inputs) != 1:
            return False
        scale = inputs[0]
    return False
