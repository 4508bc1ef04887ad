"""Nearest neighbours: predict from the targets of the nearest training samples.

The search is exact: the neighbours are those of distances in float64; equal distances are ordered
by row. Fitting costs nothing and a prediction a pass over all samples, the opposite of what most
uses need, but it is the first baseline for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from thalweg.classical.checks import (
    check_classes,
    check_columns,
    check_count,
    check_name,
    check_vectors,
)
from thalweg.classical.cross_validation import Score, folds
from thalweg.classical.neighbor_search import (
    KERNELS,
    Metric,
    SearchProblem,
    comparison_frame,
    search,
)
from thalweg.errors import UsageError

Tie = Literal["nearest", "lowest", "abstain"]

MEMORY = 2**29  # bytes of working storage beside the vectors themselves
UNDECIDED = -1  # prediction for a tied vote with tie="abstain"
MIN_MEMORY = 2**20


class Neighbors(NamedTuple):
    """Per query, nearest first: the distances (float64, in the metric) and the reference's rows."""

    distances: Float[Tensor, "query k"]
    indices: Int64[Tensor, "query k"]


def nearest_neighbors(
    queries: Shaped[Tensor, "query dim"],
    reference: Shaped[Tensor, "reference dim"],
    *,
    k: int,
    metric: Metric = "l2",
    memory: int = MEMORY,
) -> Neighbors:
    """Find the k nearest rows of the reference for each query, equal distances in order of rows.

    `metric` "l1" is Σ|x − y|, "l2" √Σ(x − y)². `memory` bounds the bytes of working storage, about;
    the reference may be memory-mapped and larger than that. On bytes (uint8) and a CPU with 8-bit
    dot products the search is several times faster than on floats.
    Raises: DataError for empty or non-finite vectors; UsageError for k > the rows of the reference.
    """
    check_name(metric, tuple(KERNELS), "metric")
    check_vectors(reference, "reference")
    check_vectors(queries, "queries")
    check_columns(queries, dim=reference.shape[1], what="queries")
    check_count(k, name="k", most=len(reference), of="the number of samples")
    if memory < MIN_MEMORY:
        raise UsageError("memory is in bytes, at least 1 MiB", seen=f"{memory}", fix="2**28")
    if queries.dtype != reference.dtype:
        dtype = torch.promote_types(queries.dtype, reference.dtype)
        queries, reference = queries.to(dtype), reference.to(dtype)
    problem = SearchProblem(reference, k, metric, comparison_frame(reference), memory)
    distances, indices = search(queries, problem)
    return Neighbors(distances.sqrt() if metric == "l2" else distances, indices)


def majority_vote(
    targets: Int64[Tensor, "query k"], *, num_classes: int, tie: Tie = "nearest"
) -> Int64[Tensor, " query"]:
    """The most frequent class among the neighbours' `targets`, nearest first.

    A tie goes to the class whose first member is nearest ("nearest"), to the lowest index
    ("lowest", as in scikit-learn), or to −1 ("abstain"): more data should be collected there.
    """
    check_name(tie, ("nearest", "lowest", "abstain"), "tie policy")
    counts = vote_counts(targets, num_classes=num_classes)
    most = counts.amax(dim=1, keepdim=True)
    is_leader = counts == most
    if tie == "lowest":
        return is_leader.int().argmax(dim=1)  # argmax takes the first of several
    first = is_leader.gather(1, targets).int().argmax(dim=1, keepdim=True)
    winner = targets.gather(1, first)[:, 0]
    if tie == "nearest":
        return winner
    return torch.where(is_leader.sum(dim=1) == 1, winner, UNDECIDED)


def vote_counts(
    targets: Int64[Tensor, "query k"], *, num_classes: int
) -> Int64[Tensor, "query class"]:
    """The number of neighbours of each query in each class."""
    counts = targets.new_zeros(len(targets), num_classes)
    return counts.scatter_add_(1, targets, torch.ones_like(targets))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighborClassifier:
    """Predict the most frequent class among the k nearest samples."""

    reference: Shaped[Tensor, "reference dim"]
    targets: Int64[Tensor, " reference"]
    num_classes: int
    k: int = 1
    metric: Metric = "l2"
    tie: Tie = "nearest"
    memory: int = MEMORY

    def __post_init__(self) -> None:
        check_vectors(self.reference, "reference")
        check_classes(self.targets, rows=len(self.reference), num_classes=self.num_classes)
        check_count(self.k, name="k", most=len(self.reference), of="the number of samples")
        check_name(self.metric, tuple(KERNELS), "metric")

    def neighbors(self, inputs: Shaped[Tensor, "sample dim"]) -> Neighbors:
        return nearest_neighbors(
            inputs, self.reference, k=self.k, metric=self.metric, memory=self.memory
        )

    def predict(self, inputs: Shaped[Tensor, "sample dim"]) -> Int64[Tensor, " sample"]:
        """The class of each sample, or −1 to abstain."""
        neighbor_targets = self.targets[self.neighbors(inputs).indices]
        return majority_vote(neighbor_targets, num_classes=self.num_classes, tie=self.tie)

    def probabilities(self, inputs: Shaped[Tensor, "sample dim"]) -> Float[Tensor, "sample class"]:
        """The share of the k neighbours in each class."""
        neighbor_targets = self.targets[self.neighbors(inputs).indices]
        return vote_counts(neighbor_targets, num_classes=self.num_classes) / self.k


class ChosenK(NamedTuple):
    k: int
    scores: Mapping[int, Score]  # accuracy over the folds, for each candidate


def choose_k(
    inputs: Shaped[Tensor, "sample dim"],
    targets: Int64[Tensor, " sample"],
    *,
    num_classes: int,
    candidates: Sequence[int] = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100),
    num_folds: int = 5,
    metric: Metric = "l2",
    tie: Tie = "nearest",
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> ChosenK:
    """Choose the k of best mean accuracy in cross-validation, the largest of equals.

    One search per fold, at the largest k, serves all candidates. The defaults are CS231n's.
    Candidates larger than a fold's training part are skipped. `check` is called before each fold,
    and may raise.
    Raises: UsageError if none is left.
    """
    check_vectors(inputs, "inputs")
    check_classes(targets, rows=len(inputs), num_classes=num_classes)
    splits = folds(targets, num_folds=num_folds, seed=seed)
    usable = [k for k in candidates if 1 <= k <= min(len(train) for train, _ in splits)]
    if not usable:
        most = len(splits[0][0])
        check_count(min(candidates, default=0), name="k", most=most, of="a fold's samples")
    accuracies: dict[int, list[float]] = {k: [] for k in usable}
    for train, val in splits:
        if check is not None:
            check()
        neighbors = nearest_neighbors(inputs[val], inputs[train], k=max(usable), metric=metric)
        neighbor_targets = targets[train][neighbors.indices]
        for k in usable:
            predictions = majority_vote(neighbor_targets[:, :k], num_classes=num_classes, tie=tie)
            accuracies[k].append((predictions == targets[val]).double().mean().item())
    scores = {k: Score(tuple(values)) for k, values in accuracies.items()}
    return ChosenK(max(scores, key=lambda k: (scores[k].mean, k)), scores)
