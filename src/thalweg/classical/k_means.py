"""k-means: the k points to which all others are nearest in the square mean."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from thalweg.classical.checks import check_columns, check_count, check_vectors

SCORES_AT_ONCE = 2**21
SEEDING_ROWS = 20  # rows a centre from which the first centres are drawn


class Clusters(NamedTuple):
    centers: Float[Tensor, "cluster dim"]
    assignment: Int64[Tensor, " sample"]
    inertia: float  # Σ‖x − its centre‖²
    iterations: int
    converged: bool


def k_means(
    points: Shaped[Tensor, "sample dim"],
    num_clusters: int,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    seed: int = 0,
    start: Float[Tensor, "cluster dim"] | None = None,
) -> Clusters:
    """Lloyd's algorithm from k-means++ centres (Arthur & Vassilvitskii 2007), or from `start`.

    Stops when inertia falls by less than `tolerance` of itself. A cluster that loses all its points
    is put on the point that is farthest from its own centre.
    Raises: DataError (empty, not finite), UsageError (more clusters than points).
    """
    check_vectors(points, "points")
    check_count(num_clusters, name="num_clusters", most=len(points), of="the number of points")
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    if start is None:
        start = _spread_out(points, num_clusters, seed)
    check_columns(start, dim=points.shape[1], what="start")
    centers, before = start.to(points), float("inf")
    for iteration in range(max_iterations):
        assignment, distances = nearest_center(points, centers)
        inertia = distances.sum(dtype=torch.float64).item()
        if before - inertia <= tolerance * inertia:
            return Clusters(centers, assignment, inertia, iteration, converged=True)
        centers, before = _centers(points, assignment, distances, count=num_clusters), inertia
    assignment, distances = nearest_center(points, centers)
    inertia = distances.sum(dtype=torch.float64).item()
    return Clusters(centers, assignment, inertia, max_iterations, converged=False)


def nearest_center(
    points: Float[Tensor, "sample dim"], centers: Float[Tensor, "cluster dim"]
) -> tuple[Int64[Tensor, " sample"], Float[Tensor, " sample"]]:
    """The index of each point's centre, and its squared distance to it."""
    squares = centers.square().sum(1)
    parts = points.split(max(1, SCORES_AT_ONCE // len(centers)))
    lowest = [torch.addmm(squares, part, centers.T, alpha=-2).min(dim=1) for part in parts]
    scores, assignment = (torch.cat(column) for column in zip(*lowest, strict=True))
    return assignment, (scores + points.square().sum(1)).clamp_min_(0)


def _centers(points: Tensor, assignment: Tensor, distances: Tensor, *, count: int) -> Tensor:
    sums = points.new_zeros(count, points.shape[1]).index_add_(0, assignment, points)
    sizes = torch.bincount(assignment, minlength=count)
    centers = sums / sizes.clamp_min(1)[:, None]
    empty = (sizes == 0).nonzero()[:, 0]
    if len(empty):
        centers[empty] = points[distances.topk(len(empty)).indices]
    return centers


def _spread_out(points: Tensor, count: int, seed: int) -> Tensor:
    """k-means++: each next centre drawn in proportion to its squared distance to those drawn."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(points), generator=draw)[: max(SEEDING_ROWS * count, 10_000)]
    pool = points[rows.to(points.device)]
    chosen = [0]
    nearest = (pool - pool[0]).square().sum(1)
    for _ in range(count - 1):
        cumulative = nearest.double().cumsum(0)
        mark = torch.rand((), generator=draw, dtype=torch.float64).to(pool.device) * cumulative[-1]
        # With fewer distinct points than centres the rest of the draw is of equals: any will do.
        index = int(torch.searchsorted(cumulative, mark, right=True).clamp_max(len(pool) - 1))
        chosen.append(index)
        nearest = torch.minimum(nearest, (pool - pool[index]).square().sum(1))
    return pool[chosen]
