"""Loss landscapes: the loss on a line or a plane through weight space."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.borrow import LossFn
from thalweg.curvature.lanczos import Array, lanczos
from thalweg.curvature.products import hessian
from thalweg.curvature.surface import Surface
from thalweg.curvature.twice_differentiable import BatchNormMode, Normalisation
from thalweg.errors import UsageError

Directions = Literal["random", "eigen", "principal"]
StateDict = Mapping[str, Tensor]  # or at least the weights of one
MARGIN = 0.25  # beyond the path, or the line between two runs, as a share of its extent


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Losses on a line (one axis) or a grid (two), and the path of training over it."""

    axes: tuple[Array, ...]  # coordinates along each direction; 0 is at the weights
    names: tuple[str, ...]
    losses: Array  # one dimension per axis
    centre: float  # the loss at the weights
    path: Array | None  # [point, axis]: the optimizer's path, projected
    path_losses: Array | None  # at the points of the path, not at their projections
    explained: float | None  # share of the path's variance in the plane
    batch_norm: Normalisation
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {
            "directions": list(self.names),
            "axes": [axis.tolist() for axis in self.axes],
            "losses": self.losses.tolist(),
            "centre": self.centre,
            "path": None if self.path is None else self.path.tolist(),
            "path_losses": None if self.path_losses is None else self.path_losses.tolist(),
            "explained": self.explained,
            "batch_norm": self.batch_norm,
            "samples": self.samples,
        }


def landscape(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    *,
    directions: Directions = "random",
    dimensions: Literal[1, 2] = 2,
    radius: float = 1.0,
    points: int = 25,
    path: Sequence[StateDict] = (),
    weights: Sequence[str] | None = None,
    batch_norm: BatchNormMode = "train",
    seed: int = 0,
) -> Landscape:
    """Evaluate the loss around the model's weights; the model is restored.

    random: Gaussian, each filter as long as the weight's filter (biases and norms do not move), so
    that networks of different scale can be compared; `radius` 1 is a change as large as the
    weights. eigen: along the eigenvectors of the largest eigenvalues. principal: the plane in which
    `path` (state dicts, oldest first) varies most; the axes then span the path.

    Cost: points**dimensions evaluations of the loss.
    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets".
    """
    with Surface(model, loss_fn, batches, weights=weights, batch_norm=batch_norm) as surface:
        centre = surface.point.double()
        path_points = _path_points(surface, path)
        basis, names = _choose_directions(
            surface, directions, path_points, dimensions=dimensions, seed=seed
        )
        has_path = len(path_points) > 0
        projection = _project(path_points, centre, basis) if has_path else None
        axes = _axes(projection, count=len(basis), radius=radius, points=points)
        return Landscape(
            axes=axes,
            names=names,
            losses=_losses_on_grid(surface, basis, axes),
            centre=surface.loss(),
            path=projection,
            path_losses=np.array([surface.loss_at(point) for point in path_points])
            if has_path
            else None,
            explained=_explained_variance(path_points - centre, basis) if has_path else None,
            batch_norm=surface.normalisation,
            samples=surface.samples,
        )


def interpolation(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    *,
    other: StateDict,
    points: int = 41,
    batch_norm: BatchNormMode = "train",
) -> Landscape:
    """Evaluate the loss on the straight line from these weights (0) to another run's (1).

    Source: Goodfellow, Vinyals and Saxe 2015, "Qualitatively characterizing neural network
    optimization problems".
    """
    with Surface(model, loss_fn, batches, batch_norm=batch_norm) as surface:
        (end,) = _path_points(surface, [other])
        axis = np.linspace(-MARGIN, 1 + MARGIN, points)
        direction = (end - surface.point.double())[None]
        return Landscape(
            axes=(axis,),
            names=("from this run (0) to the other (1)",),
            losses=_losses_on_grid(surface, direction, (axis,)),
            centre=surface.loss(),
            path=None,
            path_losses=None,
            explained=None,
            batch_norm=surface.normalisation,
            samples=surface.samples,
        )


def filter_normalised_direction(surface: Surface, *, seed: int = 0) -> Float[Tensor, " weights"]:
    """A random direction whose filters (rows of a weight) are as long as the weight's."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for leaf in surface.leaves:
        weight = leaf.detach().double()
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        noise = noise.to(weight.device)
        if weight.ndim < 2:
            parts.append(torch.zeros_like(noise))
            continue
        lengths = weight.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1).clamp_min(1e-300)
        parts.append(noise * lengths.view(-1, *[1] * (weight.ndim - 1)))
    return surface.flat(parts)


def principal_directions(
    path_points: Float[Tensor, "points weights"], *, count: int = 2
) -> Float[Tensor, "count weights"]:
    """Orthonormal directions in which a path varies most about its end, in descending order."""
    offsets = (path_points - path_points[-1]).double()
    gram = offsets @ offsets.T
    _, vectors = torch.linalg.eigh(gram)
    rows = vectors[:, -count:].T.flip(0) @ offsets
    return torch.linalg.qr(rows.T).Q.T


def _path_points(surface: Surface, path: Sequence[StateDict]) -> Float[Tensor, "points weights"]:
    rows = []
    for state in path:
        missing = [name for name in surface.names if name not in state]
        if missing:
            raise UsageError(
                "the other weights belong to another model",
                seen=f"no {missing[0]} among {', '.join(list(state)[:5])}, …",
                fix="pass state dicts of the same architecture",
            )
        rows.append(
            surface.flat(
                [state[name].detach().to(surface.device).double() for name in surface.names]
            )
        )
    if not rows:
        return torch.empty(0, surface.size, dtype=torch.float64, device=surface.device)
    if rows[0].numel() != surface.size:
        raise UsageError("the other weights do not have the shapes of this model's")
    return torch.stack(rows)


def _choose_directions(
    surface: Surface, directions: Directions, path_points: Tensor, *, dimensions: int, seed: int
) -> tuple[Tensor, tuple[str, ...]]:
    if directions == "principal":
        if (rank := _path_rank(path_points)) < dimensions:
            raise UsageError(
                f"the path has no {dimensions} principal directions",
                seen=f"{len(path_points)} points that span {rank} dimensions",
                fix="pass path= with more state dicts that differ (a run keeps few checkpoints), "
                "draw dimensions=1, or use directions='random'",
            )
        names = tuple(f"principal direction {i + 1} of the path" for i in range(dimensions))
        return principal_directions(path_points, count=dimensions), names
    if directions == "eigen":
        krylov = lanczos(hessian(surface), top=dimensions, bottom=0, tolerance=1e-3)
        index = list(range(krylov.steps - 1, krylov.steps - 1 - dimensions, -1))
        names = tuple(
            f"eigenvector {i + 1} (λ = {krylov.values[j]:.3g})" for i, j in enumerate(index)
        )
        return krylov.vectors(index), names
    rows = [filter_normalised_direction(surface, seed=seed + i) for i in range(dimensions)]
    return torch.stack(rows), tuple(
        f"random direction {i + 1}, filter-normalised" for i in range(dimensions)
    )


def _path_rank(path_points: Tensor) -> int:
    """The number of dimensions that the path spans, beyond rounding."""
    if len(path_points) < 2:
        return 0
    return int(torch.linalg.matrix_rank(path_points[:-1] - path_points[-1], rtol=1e-6))


def _project(path_points: Tensor, centre: Tensor, basis: Tensor) -> Array:
    """Least-squares coordinates of the points in the plane."""
    coordinates = torch.linalg.lstsq(basis.T, (path_points - centre).T).solution
    return coordinates.T.cpu().numpy()


def _axes(projection: Array | None, *, count: int, radius: float, points: int) -> tuple[Array, ...]:
    if projection is None:
        return tuple(np.linspace(-radius, radius, points) for _ in range(count))
    axes = []
    for column in projection.T:
        low, high = min(float(column.min()), 0.0), max(float(column.max()), 0.0)
        margin = MARGIN * max(high - low, 1e-9)
        axes.append(np.linspace(low - margin, high + margin, points))
    return tuple(axes)


def _explained_variance(offsets: Tensor, basis: Tensor) -> float:
    orthonormal = torch.linalg.qr(basis.T).Q
    total = float(offsets.square().sum())
    return float((offsets @ orthonormal).square().sum()) / total if total else 1.0


def _losses_on_grid(surface: Surface, basis: Tensor, axes: tuple[Array, ...]) -> Array:
    centre = surface.point.double()
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    coordinates = torch.from_numpy(grid.reshape(-1, len(axes))).to(surface.device)
    losses = [surface.loss_at(centre + row @ basis) for row in coordinates]
    return np.array(losses).reshape(grid.shape[:-1])
