"""Colour histograms: the share of an image's pixels in each colour, wherever they are."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.classical.checks import check_count, check_name
from thalweg.classical.features.images import Images, as_floats, check_images, in_batches

PIXELS_PER_BATCH = 2**19  # intermediate values stay in a core's cache


def colour_histogram(
    images: Images, *, bins: int = 10, space: Literal["hue", "rgb"] = "hue"
) -> Float[Tensor, "image bin"]:
    """The share of the pixels in each of `bins` equal intervals: of hue, or of each of R, G, B.

    Grey pixels have hue 0, as in matplotlib and in CS231n's assignment 1. Floats outside 0…1 count
    in the nearest interval.
    Raises: DataError unless the images have 3 channels.
    """
    check_name(space, ("hue", "rgb"), "colour space")
    check_count(bins, name="bins", most=256, of="the number of values of a byte")
    check_images(images, channels=3)

    def feature(batch: Tensor) -> Tensor:
        pixels = as_floats(batch).flatten(2)
        values = hue(pixels)[:, None] if space == "hue" else pixels
        index = (values * bins).long().clamp_(0, bins - 1)
        counts = pixels.new_zeros(*index.shape[:2], bins)
        counts.scatter_add_(2, index, torch.ones_like(values))
        return counts.flatten(1) / pixels.shape[2]

    return in_batches(feature, images, batch_size=PIXELS_PER_BATCH // images[0, 0].numel())


def hue(pixels: Float[Tensor, "image 3 pixel"]) -> Float[Tensor, "image pixel"]:
    """The angle on the colour circle in turns, 0 (red) ≤ hue < 1; 0 for greys."""
    red, green, blue = pixels.unbind(1)
    highest = pixels.amax(1)
    span = highest - pixels.amin(1)
    safe = torch.where(span > 0, span, 1)
    sixths = torch.where(
        highest == red,
        (green - blue) / safe,
        torch.where(highest == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turns = torch.where(span > 0, sixths / 6, 0)
    return torch.where(turns < 0, turns + 1, turns)
