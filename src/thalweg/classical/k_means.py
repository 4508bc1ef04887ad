"""k-means clustering: k centres of least mean squared distance to the points."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from thalweg.classical.checks import check_columns, check_count, check_vectors

SCORES_PER_BLOCK = 2**21
SEEDING_ROWS = 20  # rows per centre that the first centres are drawn from


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
    check: Callable[[], None] | None = None,
) -> Clusters:
    """Run Lloyd's algorithm from k-means++ centres (Arthur & Vassilvitskii 2007), or from `start`.

    It stops when inertia falls by less than `tolerance` of itself. A cluster that loses all its
    points moves to the point that is farthest from its own centre. `check` is called before each
    iteration, and may raise.
    Raises: DataError (empty, not finite), UsageError (more clusters than points).
    """
    check_vectors(points, "points")
    check_count(num_clusters, name="num_clusters", most=len(points), of="the number of points")
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    if start is None:
        start = _k_means_plus_plus(points, num_clusters, seed)
    check_columns(start, dim=points.shape[1], what="start")
    centers, before = start.to(points), float("inf")
    for iteration in range(max_iterations):
        if check is not None:
            check()
        assignment, distances = nearest_center(points, centers)
        inertia = distances.sum(dtype=torch.float64).item()
        if before - inertia <= tolerance * inertia:
            return Clusters(centers, assignment, inertia, iteration, converged=True)
        centers = _update_centers(points, assignment, distances, count=num_clusters)
        before = inertia
    assignment, distances = nearest_center(points, centers)
    inertia = distances.sum(dtype=torch.float64).item()
    return Clusters(centers, assignment, inertia, max_iterations, converged=False)


def nearest_center(
    points: Float[Tensor, "sample dim"], centers: Float[Tensor, "cluster dim"]
) -> tuple[Int64[Tensor, " sample"], Float[Tensor, " sample"]]:
    """The index of each point's centre, and its squared distance to it."""
    squares = centers.square().sum(1)
    blocks = points.split(max(1, SCORES_PER_BLOCK // len(centers)))
    lowest = [torch.addmm(squares, block, centers.T, alpha=-2).min(dim=1) for block in blocks]
    scores, assignment = (torch.cat(column) for column in zip(*lowest, strict=True))
    return assignment, (scores + points.square().sum(1)).clamp_min_(0)


def _update_centers(points: Tensor, assignment: Tensor, distances: Tensor, *, count: int) -> Tensor:
    sums = points.new_zeros(count, points.shape[1]).index_add_(0, assignment, points)
    sizes = torch.bincount(assignment, minlength=count)
    centers = sums / sizes.clamp_min(1)[:, None]
    empty = (sizes == 0).nonzero()[:, 0]
    if len(empty):
        centers[empty] = points[distances.topk(len(empty)).indices]
    return centers


def _k_means_plus_plus(points: Tensor, count: int, seed: int) -> Tensor:
    """Draw each centre in proportion to its squared distance to the centres so far."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(points), generator=generator)[: max(SEEDING_ROWS * count, 10_000)]
    pool = points[rows.to(points.device)]
    rows_drawn = [0]
    nearest = (pool - pool[0]).square().sum(1)
    for _ in range(count - 1):
        cumulative = nearest.double().cumsum(0)
        uniform = torch.rand((), generator=generator, dtype=torch.float64).to(pool.device)
        threshold = uniform * cumulative[-1]
        # With fewer distinct points than centres only equal points remain: any will do.
        index = int(torch.searchsorted(cumulative, threshold, right=True).clamp_max(len(pool) - 1))
        rows_drawn.append(index)
        nearest = torch.minimum(nearest, (pool - pool[index]).square().sum(1))
    return pool[rows_drawn]
