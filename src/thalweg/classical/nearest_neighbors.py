"""Nearest neighbours: remember every sample; answer with the targets of the nearest ones.

Exact: the neighbours are those of distances measured in float64, whatever is used to find them
quickly; equal distances are ordered by row. `fit` costs nothing, a prediction costs a pass over all
samples: the wrong way round for most uses, and the first baseline for all of them.
"""

from collections.abc import Mapping, Sequence
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
from thalweg.classical.search import FAMILIES, Metric, Problem, frame_of, search
from thalweg.errors import UsageError

Tie = Literal["nearest", "lowest", "abstain"]

MEMORY = 2**29  # bytes of working storage beside the vectors themselves
UNDECIDED = -1  # predicted where the vote is tied and the policy is to abstain
FEWEST_BYTES = 2**20


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
    """The k nearest rows of the reference for each query, equal distances in the order of rows.

    `metric` "l1" is Σ|x − y|, "l2" √Σ(x − y)². `memory` is about the bytes of working storage; the
    reference may be memory-mapped and larger than that. On bytes (uint8) and a CPU with 8-bit
    dot products the search is several times faster than on floats.
    Raises: DataError for empty or non-finite vectors; UsageError for k > the rows of the reference.
    """
    check_name(metric, tuple(FAMILIES), "metric")
    check_vectors(reference, "reference")
    check_vectors(queries, "queries")
    check_columns(queries, dim=reference.shape[1], what="queries")
    check_count(k, name="k", most=len(reference), of="the number of samples to choose from")
    if memory < FEWEST_BYTES:
        raise UsageError("memory is in bytes, at least 1 MiB", seen=f"{memory}", fix="2**28")
    if queries.dtype != reference.dtype:
        shared = torch.promote_types(queries.dtype, reference.dtype)
        queries, reference = queries.to(shared), reference.to(shared)
    problem = Problem(reference, k, metric, frame_of(reference), memory)
    found = search(queries, problem)
    return Neighbors(found.distances.sqrt() if metric == "l2" else found.distances, found.indices)


def vote(
    targets: Int64[Tensor, "query k"], *, num_classes: int, tie: Tie = "nearest"
) -> Int64[Tensor, " query"]:
    """The class that most of the neighbours have; `targets` are theirs, nearest first.

    Where several classes have equally many: "nearest" takes the one of them whose first member is
    nearest, "lowest" the one of lowest index (as scikit-learn does), "abstain" gives −1:
    such blank regions are where more data should be collected.
    """
    check_name(tie, ("nearest", "lowest", "abstain"), "tie policy")
    counts = votes(targets, num_classes=num_classes)
    most = counts.amax(dim=1, keepdim=True)
    leads = counts == most
    if tie == "lowest":
        return leads.int().argmax(dim=1)  # argmax takes the first of several
    first = leads.gather(1, targets).int().argmax(dim=1, keepdim=True)
    winner = targets.gather(1, first)[:, 0]
    if tie == "nearest":
        return winner
    return torch.where(leads.sum(dim=1) == 1, winner, UNDECIDED)


def votes(targets: Int64[Tensor, "query k"], *, num_classes: int) -> Int64[Tensor, "query class"]:
    """How many neighbours of each query are of each class."""
    counts = targets.new_zeros(len(targets), num_classes)
    return counts.scatter_add_(1, targets, torch.ones_like(targets))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighborClassifier:
    """Predicts the class that most of the k nearest samples have."""

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
        check_name(self.metric, tuple(FAMILIES), "metric")

    def neighbors(self, inputs: Shaped[Tensor, "sample dim"]) -> Neighbors:
        return nearest_neighbors(
            inputs, self.reference, k=self.k, metric=self.metric, memory=self.memory
        )

    def predict(self, inputs: Shaped[Tensor, "sample dim"]) -> Int64[Tensor, " sample"]:
        """The class of each sample, or −1 where it abstains."""
        found = self.targets[self.neighbors(inputs).indices]
        return vote(found, num_classes=self.num_classes, tie=self.tie)

    def probabilities(self, inputs: Shaped[Tensor, "sample dim"]) -> Float[Tensor, "sample class"]:
        """The share of the k neighbours that is of each class."""
        found = self.targets[self.neighbors(inputs).indices]
        return votes(found, num_classes=self.num_classes) / self.k


class ChosenK(NamedTuple):
    k: int
    scores: Mapping[int, Score]  # accuracy over the folds, for each k that was tried


def choose_k(
    inputs: Shaped[Tensor, "sample dim"],
    targets: Int64[Tensor, " sample"],
    *,
    num_classes: int,
    choices: Sequence[int] = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100),
    num_folds: int = 5,
    metric: Metric = "l2",
    tie: Tie = "nearest",
    seed: int = 0,
) -> ChosenK:
    """The k of best mean accuracy in cross-validation; of equals the largest, which is smoothest.

    One search a fold, at the largest k, serves them all. The default choices are CS231n's.
    Choices larger than a fold's training part are passed over.
    Raises: UsageError where none is left.
    """
    check_vectors(inputs, "inputs")
    check_classes(targets, rows=len(inputs), num_classes=num_classes)
    parts = folds(targets, num_folds=num_folds, seed=seed)
    usable = [k for k in choices if 1 <= k <= min(len(train) for train, _ in parts)]
    if not usable:
        check_count(min(choices, default=0), name="k", most=len(parts[0][0]), of="a fold's samples")
    accuracies: dict[int, list[float]] = {k: [] for k in usable}
    for train, val in parts:
        found = nearest_neighbors(inputs[val], inputs[train], k=max(usable), metric=metric)
        near = targets[train][found.indices]
        for k in usable:
            predicted = vote(near[:, :k], num_classes=num_classes, tie=tie)
            accuracies[k].append((predicted == targets[val]).double().mean().item())
    scores = {k: Score(tuple(values)) for k, values in accuracies.items()}
    return ChosenK(max(scores, key=lambda k: (scores[k].mean, k)), scores)
