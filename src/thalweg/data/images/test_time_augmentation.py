"""Test-time augmentation: average a model's outputs over several views of an image.

The logits are averaged, not the probabilities. Source: Jordan 2024, arXiv:2404.00498
§3.5, after Krizhevsky et al. 2012; only for uncertain images: hiverge/cifar10-speedrun.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from thalweg.data.batch import Inputs, forward

Forward = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentedViews:
    """The views to average, and the confidence above which one view suffices."""

    views: Literal["one", "flip", "shift"] = "one"
    sure: float = 1.0

    def __call__(
        self,
        model: Forward,
        inputs: Inputs,
        first: Float[Tensor, "*output"] | None = None,
    ) -> Float[Tensor, "*output"]:
        """The model's averaged outputs, float32.

        "flip" averages the image and its mirror image. "shift" gives these a quarter each, and an
        eighth each to both shifted by a pixel up and left, and down and right, with a reflected
        border. An image whose largest probability in the first view is at least `sure` keeps that
        view's outputs; 1: none does. `first` are the outputs of the first view, if computed before.
        """
        outputs = forward(model, inputs).float() if first is None else first
        if self.views == "one":
            return outputs
        assert isinstance(inputs, Tensor), "only images have several views"
        if self.sure >= 1:
            return _average(model, inputs, outputs, kind=self.views)
        unsure = (outputs.softmax(1).amax(1) < self.sure).nonzero()[:, 0]
        if len(unsure):
            some = _like(inputs, inputs.index_select(0, unsure))
            more = _average(model, some, outputs.index_select(0, unsure), kind=self.views)
            outputs = outputs.index_copy(0, unsure, more)
        return outputs


ONE_VIEW = AugmentedViews()


def _average(model: Forward, inputs: Tensor, first: Tensor, *, kind: str) -> Tensor:
    """Average with `first`, the outputs of the images as they are."""
    others = list(_other_views(inputs, kind))
    total = first * (0.5 if kind == "flip" else 0.25)
    for weight, view in others:
        total = total + weight * model(_like(inputs, view)).float()
    return total


def _other_views(inputs: Tensor, kind: str) -> Iterator[tuple[float, Tensor]]:
    """Weight and images of each further view; with the first view's, the weights sum to 1."""
    yield (0.5 if kind == "flip" else 0.25), inputs.flip(3)
    if kind == "shift":
        height, width = inputs.shape[2:]
        bordered = pad(inputs, (1, 1, 1, 1), mode="reflect")
        for start in (0, 2):
            moved = bordered[:, :, start : start + height, start : start + width]
            yield 0.125, moved
            yield 0.125, moved.flip(3)


def _like(inputs: Tensor, view: Tensor) -> Tensor:
    """The view in the memory format of the inputs."""
    is_last = inputs.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_last else torch.contiguous_format
    return view.contiguous(memory_format=layout)
