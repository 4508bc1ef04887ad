"""Spectrum of a loss's Hessian: extreme eigenvalues, trace and density from one Krylov basis."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.borrow import LossFn
from thalweg.curvature.density import Density, density
from thalweg.curvature.lanczos import Krylov, lanczos
from thalweg.curvature.operators import Operator
from thalweg.curvature.products import Graph, gauss_newton, hessian
from thalweg.curvature.surface import Surface
from thalweg.curvature.trace import Trace, trace
from thalweg.curvature.twice_differentiable import BatchNormMode, Normalisation

Matrix = Literal["hessian", "gauss-newton"]
DENSITY_STEPS = 60  # as accurate, with outliers counted, as plain quadrature with 100
ZERO_BAND = 1e-4  # of |λ|max: float32 products cannot tell smaller ones from zero
SHARP, FLAT = 0.1, 0.01  # of 1 + loss, as Keskar et al. 2017 divide, arXiv:1609.04836
TRACE_PRECISION = 0.02  # relative half width at which sampling of the trace stops


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The kind of the point at the weights, and how steeply the loss rises around it."""

    kind: str  # minimum, saddle, flat, not-critical or undecided
    reason: str
    loss: float
    rise: float  # of the loss, where the weights move by 1 % of their length in the sharpest way

    @property
    def sharpness(self) -> Literal["sharp", "flat", "moderate"]:
        """Sharp where that move costs a tenth of 1 + loss, flat where it costs a hundredth."""
        cost = self.rise / (1 + abs(self.loss))
        return "sharp" if cost >= SHARP else "flat" if cost <= FLAT else "moderate"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"sharpness": self.sharpness}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """Eigenvalues of one matrix at one point, each with a bound on its error."""

    matrix: Matrix
    batch_norm: Normalisation  # the statistics of normalisation layers
    size: int  # weights
    samples: int
    top: tuple[float, ...]  # largest first
    top_errors: tuple[float, ...]
    top_vectors: Float[Tensor, "top weights"]
    bottom: tuple[float, ...]  # most negative first
    bottom_errors: tuple[float, ...]
    bottom_vectors: Float[Tensor, "bottom weights"]
    trace: Trace | None
    density: Density
    products: int
    converged: bool  # all of top and bottom are within the tolerance
    shape: Shape | None = None  # None: not measured

    @property
    def most_negative(self) -> float:
        """The smallest eigenvalue; it may be positive."""
        return self.bottom[0]

    @property
    def band(self) -> float:
        """|λ| up to which an eigenvalue counts as zero."""
        return ZERO_BAND * max(abs(self.top[0]), abs(self.bottom[0]))

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of negative, zero and positive eigenvalues, from the density."""
        return self.density.shares(self.band)

    def to_dict(self) -> dict[str, Any]:
        """All but the vectors, as JSON values."""
        names = ("matrix", "batch_norm", "size", "samples", "products", "converged")
        lists = ("top", "top_errors", "bottom", "bottom_errors")
        record: dict[str, Any] = {name: getattr(self, name) for name in names}
        record |= {name: list(getattr(self, name)) for name in lists}
        nodes, weights = self.density.nodes.tolist(), self.density.weights.tolist()
        record["density"] = {"nodes": nodes, "weights": weights}
        record["band"] = self.band
        record["shares"] = dict(zip(("negative", "zero", "positive"), self.shares, strict=True))
        if self.shape:
            record["shape"] = self.shape.to_dict()
        if self.trace:
            ends = [self.trace.low, self.trace.high]
            record["trace"] = {"value": self.trace.value, "interval": ends}
        return record


def spectrum(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    *,
    top: int = 5,
    bottom: int = 1,
    steps: int = DENSITY_STEPS,
    probes: int = 40,
    tolerance: float = 1e-4,
    matrix: Matrix = "hessian",
    weights: Sequence[str] | None = None,
    batch_norm: BatchNormMode = "train",
    dtype: torch.dtype | None = None,
    graph: Graph = "auto",
    seed: int = 0,
) -> Spectrum:
    """Compute eigenvalues of the loss's Hessian at the model's weights; the model is restored.

    The basis takes at least `steps` products, and up to three times as many until the `top` and
    `bottom` eigenvalues are within `tolerance` of |λ|max; `steps=0` stops as soon as they are, but
    gives only a rough density. `probes=0` skips the trace. `Surface` and `hessian` explain the
    other options.

    Cost: about one gradient over all batches per product if memory allows, else two.
    Raises: CurvatureError if the curvature cannot be measured; UsageError.

    >>> import torch
    >>> model = torch.nn.Linear(3, 1)
    >>> batch = (torch.eye(3), torch.zeros(3, 1))
    >>> result = spectrum(model, torch.nn.functional.mse_loss, [batch], top=1)
    >>> f"{result.top[0]:.4f}"  # (2/3)·[[I, 1], [1ᵀ, 3]]: the eigenvalues are 8/3, 2/3, 2/3 and 0
    '2.6667'
    """
    build = hessian if matrix == "hessian" else gauss_newton
    with Surface(
        model, loss_fn, batches, weights=weights, batch_norm=batch_norm, dtype=dtype
    ) as surface:
        operator = build(surface, graph=graph)
        krylov = lanczos(
            operator,
            top=top,
            bottom=bottom,
            tolerance=tolerance,
            min_steps=steps,
            max_steps=3 * max(steps, DENSITY_STEPS),
            seed=seed,
        )
        return spectrum_of_basis(
            operator, krylov, surface=surface, matrix=matrix, top=top, bottom=bottom, probes=probes
        )


def spectrum_of_basis(
    operator: Operator,
    krylov: Krylov,
    *,
    surface: Surface,
    matrix: Matrix,
    top: int,
    bottom: int,
    probes: int,
) -> Spectrum:
    """Compute the spectrum from one basis, with `probes` more products for the trace."""
    highest = range(krylov.steps - 1, max(krylov.steps - 1 - top, -1), -1)
    lowest = range(min(bottom, krylov.steps))
    estimate = trace(operator, krylov, probes=probes, precision=TRACE_PRECISION) if probes else None
    return Spectrum(
        matrix=matrix,
        batch_norm=surface.normalisation,
        size=krylov.size,
        samples=surface.samples,
        top=tuple(krylov.values[list(highest)].tolist()),
        top_errors=tuple(krylov.errors[list(highest)].tolist()),
        top_vectors=krylov.vectors(list(highest)),
        bottom=tuple(krylov.values[list(lowest)].tolist()),
        bottom_errors=tuple(krylov.errors[list(lowest)].tolist()),
        bottom_vectors=krylov.vectors(list(lowest)),
        trace=estimate,
        density=density(krylov),
        products=operator.products,
        converged=krylov.converged,
    )
