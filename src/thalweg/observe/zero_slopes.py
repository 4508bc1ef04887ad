"""Find the leaves of a loss's graph that every path reaches through a step function alone.

The derivative of `round`, `sign` or `floor` is zero wherever there is one: autograd sends zeros on,
without any error.
"""

from typing import Any

from torch import Tensor

from thalweg.observe.graph_walk import ACCUMULATE, MOST_NODES
from thalweg.observe.pairs_in_loss import node_name

STEPS = ("Round", "Sign", "Sgn", "Floor", "Ceil", "Trunc")


def leaves_behind_steps(loss: Any) -> list[tuple[Tensor, str]] | None:
    """Each leaf that only zeros can reach, with the step function nearest to it.

    None without a graph, or where the graph is too large to know all paths.
    """
    root = getattr(loss, "grad_fn", None)
    if root is None:
        return None
    reached: set[Any] = set()
    steps = _walk([root], reached)
    if steps is None:
        return None
    behind: dict[Any, str] = {}
    for step in steps:
        below = _leaves_below(step, reached)
        if below is None:
            return None
        behind |= below
    return [(leaf.variable, name) for leaf, name in behind.items()]


def _walk(queue: list[Any], visited: set[Any]) -> list[Any] | None:
    """Visit all that is above a step function; the step functions that end it."""
    visited.update(queue)
    steps: list[Any] = []
    while queue:
        node = queue.pop()
        if len(visited) > MOST_NODES or node_name(node).startswith("Checkpoint"):
            return None
        if _is_step(node):
            steps.append(node)
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                queue.append(following)
    return steps


def _leaves_below(step: Any, reached: set[Any]) -> dict[Any, str] | None:
    """The leaves below one step function that nothing else reaches, by the last step above."""
    behind: dict[Any, str] = {}
    visited, queue = {step}, [(step, step_name(step))]
    while queue:
        node, name = queue.pop()
        if len(visited) > MOST_NODES or node_name(node).startswith("Checkpoint"):
            return None
        if node.name() == ACCUMULATE:
            behind[node] = name
        name = step_name(node) if _is_step(node) else name
        for following, _ in node.next_functions:
            if following is not None and following not in visited and following not in reached:
                visited.add(following)
                queue.append((following, name))
    return behind


def step_name(node: Any) -> str:
    """The function as it is called: "round", "division with a rounding mode"."""
    name = node_name(node).lower()
    return "division with a rounding mode" if name == "div" else name


def _is_step(node: Any) -> bool:
    name = node_name(node)
    return name in STEPS or (
        name == "Div" and getattr(node, "_saved_rounding_mode", None) is not None
    )
