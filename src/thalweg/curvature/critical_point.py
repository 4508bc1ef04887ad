"""Classify a point as minimum, saddle, flat or not critical; other data must confirm a saddle."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.borrow import LossFn
from thalweg.curvature.density import Density, density
from thalweg.curvature.escape import Escape, escape
from thalweg.curvature.gradient_noise import GradientNoise, gradient_noise
from thalweg.curvature.lanczos import lanczos
from thalweg.curvature.operators import dense_matrix
from thalweg.curvature.portions import Portion
from thalweg.curvature.products import hessian
from thalweg.curvature.spectrum import Spectrum
from thalweg.curvature.surface import Surface
from thalweg.curvature.trace import student_quantile
from thalweg.curvature.twice_differentiable import BatchNormMode, Normalisation

PointKind = Literal["minimum", "saddle", "flat", "not-critical", "undecided"]
EXACT_UP_TO = 4000  # weights: one float64 matrix of 128 MB, eigenvalues in under a minute
BANDS = {torch.float64: 1e-8, torch.float32: 1e-4}  # of |λ|max: smaller is numerically zero
ERRORS_FROM_ZERO = 2.0  # a gradient within so many standard errors of zero may be zero
NEGLIGIBLE_GAIN = 1e-3  # of the loss: a gradient step that gains less is not worth taking
HELD_OUT_GROUPS = 8  # parts of the other data that the curvature is measured on
FEWEST_GRADIENTS, MOST_GRADIENTS = 4, 32  # of parts of the data, for the error of their mean
LARGEST_GRADIENTS = 2**27  # numbers of all of them: 1 GiB
CONFIDENCE = 0.99  # one-sided: taking a minimum for a saddle is the worse mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutCurvature:
    """Curvature along the most negative direction, measured on other data.

    The smallest eigenvalue of few samples is too negative: its eigenvector fits their noise.
    """

    in_sample: float  # uᵀHu on the data that u is computed from: biased
    mean: float  # uᵀHu on other data
    upper: float  # one-sided 99 % limit of the mean
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPoint:
    """The kind of point at the weights, and the measurements behind it."""

    verdict: PointKind
    reason: str
    loss: float
    gradient: GradientNoise
    gain: float  # ‖g‖²/2λmax: of the best gradient step, to second order
    negative: float  # shares of all eigenvalues
    zero: float
    positive: float
    band: float  # |λ| up to here counts as zero
    exact: bool  # from all eigenvalues; else the shares are estimates
    largest: float
    smallest: float
    held_out: HeldOutCurvature | None  # None without negative curvature
    escape: Escape | None
    batch_norm: Normalisation
    size: int
    samples: int


def critical_point(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    *,
    held_out: Iterable[Sequence[Any]] | None = None,
    weights: Sequence[str] | None = None,
    batch_norm: BatchNormMode = "train",
    dtype: torch.dtype | None = None,
    band: float | None = None,
    exact_up_to: int = EXACT_UP_TO,
    seed: int = 0,
) -> CriticalPoint:
    """Classify the point at the model's weights; the model is restored.

    not-critical: the gradient exceeds its sampling error, and a step along it lowers the loss.
    saddle: *other data* confirm curvature below −band, and a step along it lowers the loss.
    minimum: no eigenvalue below or within the band. flat: none below, some within.
    undecided: negative curvature that other data do not confirm.

    `held_out` are the other data; without them each half of the samples confirms the other. `band`
    is relative to |λ|max; by default 1e-8 in float64, 1e-4 in float32.

    Cost: one product per weight up to `exact_up_to` weights (all eigenvalues), about 100 above.
    Source: Dauphin et al. 2014; Jin et al. 2017 on escaping along negative curvature.
    """
    with Surface(
        model, loss_fn, batches, weights=weights, batch_norm=batch_norm, dtype=dtype
    ) as surface:
        other = surface.portions_of(held_out) if held_out is not None else None
        relative = BANDS.get(surface.dtype, 1e-4) if band is None else band
        exact = surface.size <= exact_up_to
        return _Classification(surface, other, relative=relative, exact=exact, seed=seed).point()


def classify_by_spectrum(
    surface: Surface, other: list[Portion] | None, spectrum: Spectrum
) -> tuple[PointKind, str, float]:
    """The kind of the point, the reason, and the loss, from a spectrum measured there.

    `other` are the data that have to confirm a saddle, as `held_out` of `critical_point`.
    """
    relative = BANDS.get(surface.dtype, 1e-4)
    classification = _Classification(
        surface, other, relative=relative, exact=False, seed=0, spectrum=spectrum
    )
    return (*classification.classify(), classification.loss)


class _Classification:
    def __init__(
        self,
        surface: Surface,
        other: list[Portion] | None,
        *,
        relative: float,
        exact: bool,
        seed: int,
        spectrum: Spectrum | None = None,
    ) -> None:
        self.surface, self.other, self.seed = surface, other, seed
        self.loss = surface.loss()
        groups = max(FEWEST_GRADIENTS, min(MOST_GRADIENTS, LARGEST_GRADIENTS // surface.size))
        self.noise = gradient_noise(surface, groups=groups)
        self.exact = exact
        if spectrum is None:
            self.density, self.bottom = _eigenvalues(surface, seed, exact=self.exact)
        else:
            self.density, self.bottom = spectrum.density, spectrum.bottom_vectors[0]
        values = self.density.nodes
        self.largest, self.smallest = float(values[-1]), float(values[0])
        self.band = relative * float(np.abs(values).max())
        self.gain = self.noise.norm**2 / (2 * max(self.largest, 1e-300))
        self.held_out: HeldOutCurvature | None = None
        self.escape: Escape | None = None

    def point(self) -> CriticalPoint:
        verdict, reason = self.classify()
        negative, zero, positive = self.density.shares(self.band)
        return CriticalPoint(
            verdict=verdict,
            reason=reason,
            loss=self.loss,
            gradient=self.noise,
            gain=self.gain,
            negative=negative,
            zero=zero,
            positive=positive,
            band=self.band,
            exact=self.exact,
            largest=self.largest,
            smallest=self.smallest,
            held_out=self.held_out,
            escape=self.escape,
            batch_norm=self.surface.normalisation,
            size=self.surface.size,
            samples=self.surface.samples,
        )

    def classify(self) -> tuple[PointKind, str]:
        noise = self.noise
        above_noise = not noise.norm <= ERRORS_FROM_ZERO * noise.standard_error
        if above_noise and self.gain > NEGLIGIBLE_GAIN * abs(self.loss):
            return "not-critical", (
                f"‖g‖ = {noise.norm:.3g} is not zero (standard error {noise.standard_error:.2g}): "
                f"a gradient step can still gain {self.gain:.2g} of {self.loss:.3g}"
            )
        if self.smallest >= -self.band:
            return self._without_negative()
        return self._with_negative()

    def _without_negative(self) -> tuple[PointKind, str]:
        _, zero, _ = self.density.shares(self.band)
        if zero > 0:
            return "flat", f"no negative curvature; {zero:.0%} of the eigenvalues are zero"
        return "minimum", f"every eigenvalue is positive: from {self.smallest:.2g} up"

    def _with_negative(self) -> tuple[PointKind, str]:
        self.held_out = held_out = _measure_held_out(
            self.surface, self.bottom, self.other, seed=self.seed
        )
        if not held_out.upper < -self.band:
            return "undecided", (
                f"λmin = {self.smallest:.3g} here, but on other data {held_out.mean:.2g} (at most "
                f"{held_out.upper:.2g}) along its direction: not significantly negative"
            )
        self.escape = escape(self.surface, self.bottom, self.other)
        if not self.escape.measured > 0:
            return "undecided", "negative curvature, but no step along it lowers the loss"
        return "saddle", (
            f"curvature {held_out.mean:.3g} (at most {held_out.upper:.2g}) along one direction, on "
            f"data that did not select it; a step along it gains {self.escape.measured:.2g}"
        )


def _eigenvalues(surface: Surface, seed: int, *, exact: bool) -> tuple[Density, Tensor]:
    """All eigenvalues or their density, and the eigenvector of the smallest."""
    operator = hessian(surface)
    if not exact:
        krylov = lanczos(operator, top=1, bottom=1, min_steps=100, seed=seed)
        return density(krylov), krylov.vectors([0])[0]
    values, vectors = torch.linalg.eigh(dense_matrix(operator))
    shares = np.full(len(values), 1 / len(values))
    return Density(nodes=values.cpu().numpy(), weights=shares, size=len(values)), vectors[:, 0]


def _measure_held_out(
    surface: Surface, bottom: Tensor, other: list[Portion] | None, *, seed: int
) -> HeldOutCurvature:
    if other is not None:
        return _curvature_on(surface, [(bottom, surface.portions, other)])
    halves = _halves(surface.groups(2 * HELD_OUT_GROUPS))
    if halves is None:
        return HeldOutCurvature(
            in_sample=float("nan"), mean=float("nan"), upper=float("inf"), groups=0
        )
    first, second = halves
    pairs = [
        (_most_negative(surface, selection, seed=seed), selection, check)
        for selection, check in ((first, second), (second, first))
    ]
    return _curvature_on(surface, pairs)


def _curvature_on(
    surface: Surface, pairs: list[tuple[Tensor, list[Portion], list[Portion]]]
) -> HeldOutCurvature:
    in_sample, curvatures = [], []
    for direction, selection, check in pairs:
        in_sample.append(_quotient(surface, selection, direction))
        parts = surface.groups(HELD_OUT_GROUPS, check)
        curvatures += [_quotient(surface, [part._replace(share=1.0)], direction) for part in parts]
    count = len(curvatures)
    error = stdev(curvatures) / sqrt(count) if count > 1 else float("inf")
    quantile = student_quantile(CONFIDENCE, max(count - 1, 1))
    return HeldOutCurvature(
        in_sample=fmean(in_sample),
        mean=fmean(curvatures),
        upper=fmean(curvatures) + quantile * error,
        groups=count,
    )


def _quotient(
    surface: Surface, portions: list[Portion], direction: Float[Tensor, " weights"]
) -> float:
    """uᵀHu on the portions."""
    return float(direction @ hessian(surface, graph="rebuild", portions=portions)(direction))


def _most_negative(surface: Surface, portions: list[Portion], *, seed: int) -> Tensor:
    krylov = lanczos(
        hessian(surface, portions=portions), top=0, bottom=1, tolerance=1e-3, seed=seed
    )
    return krylov.vectors([0])[0]


def _halves(portions: list[Portion]) -> tuple[list[Portion], list[Portion]] | None:
    if len(portions) < 2:
        return None
    return _renormalise(portions[::2]), _renormalise(portions[1::2])


def _renormalise(portions: list[Portion]) -> list[Portion]:
    total = sum(portion.share for portion in portions)
    return [portion._replace(share=portion.share / total) for portion in portions]
