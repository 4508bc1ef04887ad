"""The loss along chosen directions through weight space: what a picture of it is drawn from."""

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
from thalweg.curvature.twice_differentiable import BatchNormMode, Normalised
from thalweg.errors import UsageError

Directions = Literal["random", "eigen", "principal"]
State = Mapping[str, Tensor]  # a state dict, or at least the weights of one
MARGIN = 0.25  # of the path's extent, shown around it; of the way between two runs, beyond them


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Losses on a line (one axis) or a grid (two), and the path that training took over it."""

    axes: tuple[Array, ...]  # coordinates along each direction; 0 is where the weights stand
    names: tuple[str, ...]
    losses: Array  # one dimension an axis
    centre: float  # the loss where the weights stand
    path: Array | None  # [places, axes]: the optimizer's path, projected
    path_losses: Array | None  # at the path's places themselves, not at their projections
    explained: float | None  # share of the path's variance that the drawn plane holds
    batch_norm: Normalised
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """All of it, as numbers that JSON can hold."""
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
    path: Sequence[State] = (),
    weights: Sequence[str] | None = None,
    batch_norm: BatchNormMode = "train",
    seed: int = 0,
) -> Landscape:
    """The loss around the present weights; the model is left as found.

    random: Gaussian, each filter as long as the weight's filter (biases and norms stand still), so
    that nets of different scale can be compared; `radius` 1 is then a change as large as the
    weights. eigen: along the largest eigenvalues' vectors. principal: the plane in which `path`
    (state dicts, oldest first) varies most; the axes then span the path.

    Cost: points**dimensions evaluations of the loss.
    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets".
    """
    with Surface(model, loss_fn, batches, weights=weights, batch_norm=batch_norm) as surface:
        centre = surface.point.double()
        places = _places(surface, path)
        chosen, names = _chosen(surface, directions, places, dimensions=dimensions, seed=seed)
        drawn = _project(places, centre, chosen) if len(places) else None
        axes = _axes(drawn, count=len(chosen), radius=radius, points=points)
        offsets = None if drawn is None else (places - centre)
        return Landscape(
            axes=axes,
            names=names,
            losses=_evaluated(surface, chosen, axes),
            centre=surface.loss(),
            path=drawn,
            path_losses=np.array([surface.loss_at(place) for place in places])
            if len(places)
            else None,
            explained=_explained(offsets, chosen) if offsets is not None else None,
            batch_norm=surface.normalised,
            samples=surface.samples,
        )


def between(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    *,
    other: State,
    points: int = 41,
    batch_norm: BatchNormMode = "train",
) -> Landscape:
    """The loss on the straight line from these weights (0) to those of another run (1).

    Source: Goodfellow, Vinyals and Saxe 2015, "Qualitatively characterizing neural network
    optimization problems".
    """
    with Surface(model, loss_fn, batches, batch_norm=batch_norm) as surface:
        (there,) = _places(surface, [other])
        axis = np.linspace(-MARGIN, 1 + MARGIN, points)
        direction = (there - surface.point.double())[None]
        return Landscape(
            axes=(axis,),
            names=("from this run (0) to the other (1)",),
            losses=_evaluated(surface, direction, (axis,)),
            centre=surface.loss(),
            path=None,
            path_losses=None,
            explained=None,
            batch_norm=surface.normalised,
            samples=surface.samples,
        )


def filter_normalised(surface: Surface, *, seed: int = 0) -> Float[Tensor, " weights"]:
    """A random direction in which every filter (row of a weight) is as long as the weight's own."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for leaf in surface.leaves:
        weight = leaf.detach().double()
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        drawn = drawn.to(weight.device)
        if weight.ndim < 2:
            parts.append(torch.zeros_like(drawn))
            continue
        lengths = weight.flatten(1).norm(dim=1) / drawn.flatten(1).norm(dim=1).clamp_min(1e-300)
        parts.append(drawn * lengths.view(-1, *[1] * (weight.ndim - 1)))
    return surface.flat(parts)


def principal_directions(
    places: Float[Tensor, "places weights"], *, count: int = 2
) -> Float[Tensor, "count weights"]:
    """Orthonormal directions in which a path varies most about its end, most first."""
    offsets = (places - places[-1]).double()
    gram = offsets @ offsets.T
    _, vectors = torch.linalg.eigh(gram)
    rows = vectors[:, -count:].T.flip(0) @ offsets
    return torch.linalg.qr(rows.T).Q.T


def _places(surface: Surface, path: Sequence[State]) -> Float[Tensor, "places weights"]:
    rows = []
    for state in path:
        missing = [name for name in surface.names if name not in state]
        if missing:
            raise UsageError(
                "the other weights are not of this model",
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
        raise UsageError("the other weights have other shapes than this model's")
    return torch.stack(rows)


def _chosen(
    surface: Surface, directions: Directions, places: Tensor, *, dimensions: int, seed: int
) -> tuple[Tensor, tuple[str, ...]]:
    if directions == "principal":
        if (spread := _spread(places)) < dimensions:
            raise UsageError(
                f"the path has no {dimensions} principal directions",
                seen=f"{len(places)} places that spread along {spread}",
                fix="pass path= with more state dicts that differ (a run keeps few checkpoints), "
                "draw dimensions=1, or use directions='random'",
            )
        names = tuple(f"principal direction {i + 1} of the path" for i in range(dimensions))
        return principal_directions(places, count=dimensions), names
    if directions == "eigen":
        krylov = lanczos(hessian(surface), top=dimensions, bottom=0, tolerance=1e-3)
        index = list(range(krylov.steps - 1, krylov.steps - 1 - dimensions, -1))
        names = tuple(
            f"eigenvector {i + 1} (λ = {krylov.values[j]:.3g})" for i, j in enumerate(index)
        )
        return krylov.vectors(index), names
    rows = [filter_normalised(surface, seed=seed + i) for i in range(dimensions)]
    return torch.stack(rows), tuple(
        f"random direction {i + 1}, filter-normalised" for i in range(dimensions)
    )


def _spread(places: Tensor) -> int:
    """In how many directions the places differ, beyond rounding."""
    if len(places) < 2:
        return 0
    return int(torch.linalg.matrix_rank(places[:-1] - places[-1], rtol=1e-6))


def _project(places: Tensor, centre: Tensor, chosen: Tensor) -> Array:
    """Least-squares coordinates of the places in the plane."""
    solved = torch.linalg.lstsq(chosen.T, (places - centre).T).solution
    return solved.T.cpu().numpy()


def _axes(drawn: Array | None, *, count: int, radius: float, points: int) -> tuple[Array, ...]:
    if drawn is None:
        return tuple(np.linspace(-radius, radius, points) for _ in range(count))
    axes = []
    for column in drawn.T:
        low, high = min(float(column.min()), 0.0), max(float(column.max()), 0.0)
        margin = MARGIN * max(high - low, 1e-9)
        axes.append(np.linspace(low - margin, high + margin, points))
    return tuple(axes)


def _explained(offsets: Tensor, chosen: Tensor) -> float:
    basis = torch.linalg.qr(chosen.T).Q
    total = float(offsets.square().sum())
    return float((offsets @ basis).square().sum()) / total if total else 1.0


def _evaluated(surface: Surface, chosen: Tensor, axes: tuple[Array, ...]) -> Array:
    centre = surface.point.double()
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    flat = torch.from_numpy(grid.reshape(-1, len(axes))).to(surface.device)
    losses = [surface.loss_at(centre + weights @ chosen) for weights in flat]
    return np.array(losses).reshape(grid.shape[:-1])
