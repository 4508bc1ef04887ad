"""The shape of the loss at a point with a known spectrum: minimum or saddle, sharp or flat."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from thalweg.borrow import LossFn
from thalweg.curvature.critical_point import classify_by_spectrum
from thalweg.curvature.spectrum import Shape, Spectrum
from thalweg.curvature.surface import Surface
from thalweg.curvature.twice_differentiable import BatchNormMode

MOVE = 0.01  # of the length of the weights


def shape_at(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    *,
    spectrum: Spectrum,
    held_out: Iterable[Sequence[Any]] | None = None,
    batch_norm: BatchNormMode = "train",
    dtype: torch.dtype | None = None,
) -> Shape:
    """Classify the point by the spectrum that was measured there, and measure the loss nearby.

    The rise is the larger one of the two ways along the sharpest direction. `held_out` are other
    data, which have to confirm a saddle; without them each half of the samples confirms the other.

    Cost: the gradients of some groups of the samples, a few products, and a few losses.
    Source of the rise: Keskar et al. 2017, arXiv:1609.04836, §2.2, along one direction.
    """
    with Surface(model, loss_fn, batches, batch_norm=batch_norm, dtype=dtype) as surface:
        other = None if held_out is None else surface.portions_of(held_out)
        kind, reason, loss = classify_by_spectrum(surface, other, spectrum)
        point = surface.point.double()
        direction = spectrum.top_vectors[0].to(point)
        step = MOVE * float(point.norm()) * direction / float(direction.norm())
        rise = max(surface.loss_at(point + step), surface.loss_at(point - step)) - loss
    return Shape(kind=kind, reason=reason, loss=loss, rise=rise)
