"""Histograms of oriented gradients: which way the edges run in each cell of an image.

Source: Dalal & Triggs 2005, https://doi.org/10.1109/CVPR.2005.177. The definition in detail is that
of scikit-image's `hog`, to which it is equal: central differences, the channel of strongest
gradient at each pixel, orientations over 180° without interpolation, blocks of cells normalised
together.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.classical.checks import check_count, check_name
from thalweg.classical.features.images import Images, as_floats, by_parts, check_images

Normalisation = Literal["none", "L2", "L2-Hys"]

AT_ONCE = 2**18  # pixels
EPSILON = 1e-5
CLIPPED_AT = 0.2  # L2-Hys: no orientation may hold more of a block than this


def hog(
    images: Images,
    *,
    orientations: int = 9,
    cell: int = 8,
    block: int = 1,
    normalisation: Normalisation = "L2-Hys",
) -> Float[Tensor, "image feature"]:
    """One row an image: [block y, block x, cell y, cell x, orientation].

    `cell` is in pixels, `block` in cells; cells that do not fit are left out at the right and the
    bottom. 32 px at the default settings: 4 · 4 cells · 9 = 144 numbers.
    Raises: DataError for images smaller than one block.
    """
    check_name(normalisation, ("none", "L2", "L2-Hys"), "normalisation")
    check_count(orientations, name="orientations", most=180, of="one a degree")
    check_count(cell, name="cell", most=2**16, of="in pixels")
    check_count(block, name="block", most=2**16, of="in cells")
    check_images(images, smallest=cell * block)

    def feature(part: Tensor) -> Tensor:
        cells = _cell_histograms(as_floats(part), orientations, cell)
        blocks = cells.unfold(1, block, 1).unfold(2, block, 1)  # [image, y, x, orientation, r, c]
        return _normalised(blocks.permute(0, 1, 2, 4, 5, 3).flatten(3), normalisation).flatten(1)

    return by_parts(feature, images, at_once=AT_ONCE // images[0, 0].numel())


def _gradients(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Magnitude, y and x component of the strongest channel's gradient, 0 across the border."""
    y, x = torch.zeros_like(images), torch.zeros_like(images)
    torch.sub(images[:, :, 2:], images[:, :, :-2], out=y[:, :, 1:-1])
    torch.sub(images[..., 2:], images[..., :-2], out=x[..., 1:-1])
    magnitude = torch.hypot(y, x)
    if images.shape[1] == 1:
        return magnitude[:, 0], y[:, 0], x[:, 0]
    strongest, channel = magnitude.max(1, keepdim=True)
    return strongest[:, 0], y.gather(1, channel)[:, 0], x.gather(1, channel)[:, 0]


def _cell_histograms(images: Tensor, orientations: int, cell: int) -> Tensor:
    """[image, cell y, cell x, orientation]: the mean magnitude a pixel."""
    rows, columns = (size // cell for size in images.shape[2:])
    inside = slice(rows * cell), slice(columns * cell)
    magnitude, y, x = (part[:, *inside] for part in _gradients(images))
    turns = torch.rad2deg(torch.atan2(y, x)).remainder_(180).div_(180)
    angle = (turns * orientations).long().clamp_(max=orientations - 1)
    down = torch.arange(rows, device=images.device).repeat_interleave(cell)
    across = torch.arange(columns, device=images.device).repeat_interleave(cell)
    index = (down[:, None] * columns + across) * orientations + angle
    histograms = images.new_zeros(len(images), rows * columns * orientations)
    histograms.scatter_add_(1, index.flatten(1), magnitude.flatten(1))
    return histograms.view(-1, rows, columns, orientations) / cell**2


def _normalised(blocks: Tensor, normalisation: Normalisation) -> Tensor:
    if normalisation == "none":
        return blocks
    blocks = blocks / (blocks.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()
    if normalisation == "L2":
        return blocks
    blocks = blocks.clamp_max(CLIPPED_AT)
    return blocks / (blocks.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()
