"""Histograms of oriented gradients (HOG): the directions of edges in each cell of an image.

Source: Dalal & Triggs 2005, https://doi.org/10.1109/CVPR.2005.177. The details and the numbers are
those of scikit-image's `hog`: central differences, the channel of strongest gradient at each pixel,
orientations over 180° without interpolation, blocks of cells normalised together.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.classical.checks import check_count, check_name
from thalweg.classical.features.images import Images, as_floats, check_images, in_batches

Normalisation = Literal["none", "L2", "L2-Hys"]

PIXELS_PER_BATCH = 2**18
EPSILON = 1e-5
CLIP = 0.2  # L2-Hys: the largest share of an orientation in a block


def hog(
    images: Images,
    *,
    orientations: int = 9,
    cell: int = 8,
    block: int = 1,
    normalisation: Normalisation = "L2-Hys",
) -> Float[Tensor, "image feature"]:
    """Return one row per image: [block y, block x, cell y, cell x, orientation].

    `cell` is in pixels, `block` in cells; incomplete cells at the right and the bottom are
    dropped. 32 px at the default settings: 4 · 4 cells · 9 = 144 numbers.
    Raises: DataError for images smaller than one block.
    """
    check_name(normalisation, ("none", "L2", "L2-Hys"), "normalisation")
    check_count(orientations, name="orientations", most=180, of="one per degree")
    check_count(cell, name="cell", most=2**16, of="in pixels")
    check_count(block, name="block", most=2**16, of="in cells")
    check_images(images, smallest=cell * block)

    def feature(batch: Tensor) -> Tensor:
        cells = _cell_histograms(as_floats(batch), orientations, cell)
        blocks = cells.unfold(1, block, 1).unfold(2, block, 1)  # [image, y, x, orientation, r, c]
        return _normalise(blocks.permute(0, 1, 2, 4, 5, 3).flatten(3), normalisation).flatten(1)

    return in_batches(feature, images, batch_size=PIXELS_PER_BATCH // images[0, 0].numel())


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
    """[image, cell y, cell x, orientation]: the mean magnitude per pixel."""
    rows, columns = (size // cell for size in images.shape[2:])
    inside = slice(rows * cell), slice(columns * cell)
    magnitude, y, x = (component[:, *inside] for component in _gradients(images))
    turns = torch.rad2deg(torch.atan2(y, x)).remainder_(180).div_(180)
    angle = (turns * orientations).long().clamp_(max=orientations - 1)
    down = torch.arange(rows, device=images.device).repeat_interleave(cell)
    across = torch.arange(columns, device=images.device).repeat_interleave(cell)
    index = (down[:, None] * columns + across) * orientations + angle
    histograms = images.new_zeros(len(images), rows * columns * orientations)
    histograms.scatter_add_(1, index.flatten(1), magnitude.flatten(1))
    return histograms.view(-1, rows, columns, orientations) / cell**2


def _normalise(blocks: Tensor, normalisation: Normalisation) -> Tensor:
    if normalisation == "none":
        return blocks
    blocks = blocks / (blocks.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()
    if normalisation == "L2":
        return blocks
    blocks = blocks.clamp_max(CLIP)
    return blocks / (blocks.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()
