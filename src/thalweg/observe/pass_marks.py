"""Mark the forward passes of one step in the graph, and find which of them a loss compares.

A mark in a node's metadata holds nothing alive: the graph of a pass whose output is thrown away
goes as it would go without a watcher.
"""

from itertools import combinations, permutations
from math import prod
from typing import Any

from torch import Tensor

from thalweg.observe.forward_pass import is_plain, main_output
from thalweg.observe.pairs_in_loss import node_name, result_shape

MARK = "thalweg: pass"  # in a node's metadata
MOST_PASSES = 4  # anchor, positive, negative and one more
MOST_ENTRIES = 64  # samples, and numbers of each, that are kept of an output
MOST_NODES = 1000
COMPARING = (
    "Cat", "Stack", "Mm", "Bmm", "Sub", "MseLoss", "SmoothL1Loss", "HuberLoss", "KlDiv", "Cdist",
    "EuclideanDist",
)  # fmt: skip


def mark_pass(outputs: list[Tensor], node: Any, output: Any) -> None:
    """Mark the node of a pass's output with its number, and append entries of the output."""
    main = main_output(output)
    if main is None or node is None or len(outputs) >= MOST_PASSES or main.ndim < 2:
        return
    if not is_plain(main):
        return
    node.metadata[MARK] = len(outputs)
    rows = main.detach()[:MOST_ENTRIES].flatten(1)[:, :MOST_ENTRIES]
    outputs.append(rows.clone())


def compared_passes(loss: Any) -> set[tuple[int, int]]:
    """Pairs of passes whose outputs, not reduced to numbers before, one operation compares."""
    root = getattr(loss, "grad_fn", None)
    order = [] if root is None else _from_the_leaves(root)
    below: dict[Any, frozenset[int]] = {}
    pairs: set[tuple[int, int]] = set()
    for node in order:
        if MARK in node.metadata:
            below[node] = frozenset([node.metadata[MARK]])
            continue
        operands = [one for one, _ in node.next_functions if one is not None]
        below[node] = frozenset().union(*(below[one] for one in operands))
        if len(below[node]) > 1 and node_name(node) in COMPARING:
            tables = [one for one in operands if _is_table(one)]
            pairs |= _pairs_met([below[one] for one in tables])
            if any(node_name(one) == "Xlogy" for one in tables):  # p log p − p log q: KL divergence
                pairs |= set(combinations(sorted(below[node]), 2))
    return pairs


def _pairs_met(sides: list[frozenset[int]]) -> set[tuple[int, int]]:
    """Pairs of passes that come in by different operands of one operation."""
    return {
        (min(a, b), max(a, b))
        for one, other in permutations(sides, 2)
        for a in one - other
        for b in other - one
    }


def _is_table(node: Any) -> bool:
    """True for a row of numbers a sample: losses of samples are one number each."""
    shape = result_shape(node)
    return len(shape) >= 2 and prod(shape) > max(shape)


def _from_the_leaves(root: Any) -> list[Any]:
    """The nodes above the marked ones, each after its operands; none of a graph too large."""
    order: list[Any] = []
    visited: set[Any] = set()
    stack = [(root, False)]
    while stack:
        node, is_complete = stack.pop()
        if is_complete:
            order.append(node)
            continue
        if node in visited:
            continue
        visited.add(node)
        stack.append((node, True))
        if MARK not in node.metadata:
            stack.extend((one, False) for one, _ in node.next_functions if one is not None)
        if len(visited) > MOST_NODES:
            return []
    return order
