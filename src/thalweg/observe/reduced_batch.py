"""Find a function of a loss that gets one number for the whole batch, where each sample needs one.

log σ(Σ x) is not Σ log σ(x): of a batch whose sum is large nothing more is asked. Shapes of results
stay in autograd's graph after the backward pass.
"""

from typing import Any

from thalweg.observe.pairs_in_loss import node_name, result_shape

SIGMOIDS = ("LogSigmoid", "Sigmoid", "Softplus")
SCALARS = ("Neg", "Mul", "Div", "Add", "Sub", "ToCopy", "View", "Squeeze", "Clone", "Alias")
REDUCTIONS = ("Sum", "Mean")
MOST_NODES = 100
LEAST_BATCH = 4  # samples: smaller sizes coincide with others


def function_of_reduced_batch(loss: Any, batch_size: int) -> str:
    """The name of a sigmoid, or its logarithm, of a sum over the batch; "" for none."""
    root = getattr(loss, "grad_fn", None)
    if root is None or batch_size < LEAST_BATCH:
        return ""
    queue, visited = [root], {root}
    while queue and len(visited) < MOST_NODES:
        node = queue.pop()
        if result_shape(node) != ():
            continue
        if node_name(node) in SIGMOIDS and _is_of_reduced(node, batch_size):
            return node_name(node)
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                queue.append(following)
    return ""


def _is_of_reduced(node: Any, batch_size: int) -> bool:
    """True if the function's input is a whole sum or mean over that many rows, up to scale."""
    for _ in range(MOST_NODES):
        operands = [one for one, _ in node.next_functions if one is not None]
        if len(operands) != 1:
            return False
        node = operands[0]
        if result_shape(node) != ():
            return False
        if node_name(node) in REDUCTIONS:
            source = next((one for one, _ in node.next_functions if one is not None), None)
            return source is not None and result_shape(source)[:1] == (batch_size,)
        if node_name(node) not in SCALARS:
            return False
    return False
