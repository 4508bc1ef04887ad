"""Match a loss with the models that it trains: their weights are leaves of its graph."""

from typing import Any

from torch import Tensor

MOST_NODES = 5000  # a few milliseconds


def reaches(loss: Tensor, groups: list[set[int]]) -> list[bool]:
    """Return for each group of weights, as ids, whether one of them is a leaf of the loss's graph.

    True for every group where the graph is too large to be walked.
    """
    hits = [False] * len(groups)
    queue: list[Any] = [loss.grad_fn]
    visited: set[Any] = {None}
    while queue:
        node = queue.pop()
        if node in visited:
            continue
        visited.add(node)
        if len(visited) > MOST_NODES:
            return [True] * len(groups)
        weight = getattr(node, "variable", None)
        if weight is not None:
            hits = [hit or id(weight) in ids for hit, ids in zip(hits, groups, strict=True)]
            if all(hits):
                break
        queue += [following for following, _ in node.next_functions]
    return hits
