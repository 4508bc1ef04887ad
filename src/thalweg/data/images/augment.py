"""Random augmentation of a whole batch of images at once, on the device that holds it.

Every sample has its own parameters, all drawn at once from the generator; there is no loop over
samples. Applied to pixels before they are normalised, in this order: crop and flip, colour,
random changes, cutout.
"""

from dataclasses import dataclass
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from thalweg.data.batch import Part, part_of
from thalweg.data.images.random_ops import grey_values, grey_weights, image_means, random_op
from thalweg.data.images.resized_crop import Boxes, flip_where, resized_crops

_LOG_RATIO = log(4 / 3)  # crops are 3:4 to 4:3, as in Szegedy et al. 2014, "Going Deeper"
_MIDDLE = 127.5


class Draws(NamedTuple):
    """Uniform random numbers in [0, 1), one a sample, for all augmentations of a batch."""

    flip: Float[Tensor, " n"]
    down: Float[Tensor, " n"]  # shift into the border
    right: Float[Tensor, " n"]
    area: Float[Tensor, " n"]
    ratio: Float[Tensor, " n"]
    top: Float[Tensor, " n"]  # place of the resized crop
    left: Float[Tensor, " n"]
    brightness: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    hole_y: Float[Tensor, " n"]
    hole_x: Float[Tensor, " n"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """The augmentations of training images, with the recipe's `augment` keys as fields."""

    flip: bool = False  # left–right, half of the images
    alternating_flip: bool = False  # each image in every other epoch, the first one by chance
    crop_padding: int = 0  # pixels of reflected border that a crop may reach into
    crop_scale: float = 1.0  # least share of the area that a random resized crop keeps; 1: off
    brightness: float = 0.0  # factors are drawn from 1 ± this
    contrast: float = 0.0
    saturation: float = 0.0
    random_ops: int = 0  # changes drawn at random for each image, one after the other; 0: off
    random_magnitude: float = 0.3  # their strength, 0 to 1
    cutout: float = 0.0  # side of the square hole, as a share of the image's side

    def __call__(
        self,
        raw: Num[Tensor, "n h w c"],
        generator: torch.Generator,
        *,
        fill: float | Float[Tensor, " c"] = _MIDDLE,
        mirrored: Bool[Tensor, " n"] | None = None,
        part: Part | None = None,
    ) -> Num[Tensor, "n h w c"]:
        """Augment images with pixels in 0..255: the same dtype if that is exact, else float32.

        `fill` is the value of a cutout, one or one per channel. `mirrored` is a mask of images to
        flip, instead of a random one. For images that are `part` of a batch, random numbers are
        drawn for the whole batch, so that they become what they become in it.
        """
        part = part or part_of(len(raw))
        shape = (len(Draws._fields), part.rows)
        draws = Draws(*part.of(torch.rand(shape, generator=generator, device=raw.device)))
        if mirrored is not None:
            draws = draws._replace(flip=1 - mirrored.float())
        images = self.crop_and_flip(raw, draws)
        if self.brightness or self.contrast or self.saturation:
            images = self.jitter_colours(images.float(), draws)
        for turn in range(self.random_ops):
            images = random_op(
                images.float(), generator, magnitude=self.random_magnitude, turn=turn, part=part
            )
        if self.cutout:
            images = self.cut_out(images.clone() if images is raw else images, draws, fill)
        return images

    def crop_and_flip(self, images: Num[Tensor, "n h w c"], draws: Draws) -> Num[Tensor, "n h w c"]:
        """Shift with a reflected border, flip, and resize a random box to the full size."""
        mirrored = draws.flip < 0.5 if self.flip else None
        if self.crop_padding:
            images, mirrored = self._shift(images, draws), None
        if self.crop_scale >= 1:
            return images if mirrored is None else flip_where(images, mirrored)
        height, width = images.shape[1:3]
        boxes = self._boxes(height, width, draws)
        return resized_crops(images, boxes, (height, width), mirrored=mirrored)

    def _shift(self, images: Num[Tensor, "n h w c"], draws: Draws) -> Num[Tensor, "n h w c"]:
        """Shift by whole pixels: one gather of pixels, exact in any dtype."""
        n, height, width, channels = images.shape
        reach = 2 * self.crop_padding + 1
        down = (draws.down * reach).int() - self.crop_padding
        right = (draws.right * reach).int() - self.crop_padding
        places = torch.arange(width, device=images.device, dtype=torch.int32)
        flips = (draws.flip < 0.5) & self.flip
        across = torch.where(flips[:, None], places.flip(0), places)
        columns = _reflect(right[:, None] + across, width)
        rows = torch.arange(height, device=images.device, dtype=torch.int32)
        rows = _reflect(down[:, None] + rows, height)
        first = torch.arange(n, device=images.device, dtype=torch.int32)[:, None] * height
        index = (first + rows)[:, :, None] * width + columns[:, None, :]
        pixels = images.reshape(-1, channels).index_select(0, index.flatten())
        return pixels.view(n, height, width, channels)

    def _boxes(self, height: int, width: int, draws: Draws) -> Boxes:
        """Each sample's crop box, in whole pixels."""
        area = self.crop_scale + (1 - self.crop_scale) * draws.area
        ratio = ((2 * draws.ratio - 1) * _LOG_RATIO).exp()
        high = ((area / ratio).sqrt() * height).round().clamp(1, height)
        wide = ((area * ratio).sqrt() * width).round().clamp(1, width)
        top = (draws.top * (height - high + 1)).floor()
        left = (draws.left * (width - wide + 1)).floor()
        return torch.stack((top, left, high, wide), dim=1).int()

    def jitter_colours(
        self, images: Float[Tensor, "n h w c"], draws: Draws
    ) -> Float[Tensor, "n h w c"]:
        """Brightness, then contrast about the mean grey, then saturation; clipped to 0..255 once.

        All three are affine in the pixel's colours, so they are one product of matrices.
        """
        bright = _factor(draws.brightness, self.brightness)
        contrast = _factor(draws.contrast, self.contrast)
        saturation = _factor(draws.saturation, self.saturation)
        if images.shape[-1] != 3:  # a grey is its own grey
            shift = _column(bright * (1 - contrast)) * image_means(images)
            return torch.addcmul(shift, images, _column(bright * contrast)).clamp_(0, 255)
        grey = grey_weights(images.device)
        own = _square(saturation) * torch.eye(3, device=images.device)
        mix = _square(bright * contrast) * (own + _square(1 - saturation) * grey[:, None])
        shift = _square(bright * (1 - contrast) * grey_values(_mean_colour(images)))
        return _mix_channels(images, mix, shift).clamp_(0, 255)

    def cut_out(
        self, images: Num[Tensor, "n h w c"], draws: Draws, fill: float | Float[Tensor, " c"]
    ) -> Num[Tensor, "n h w c"]:
        """Fill a square about a random pixel, cut off at the border, in place (cutout).

        Source: DeVries and Taylor 2017, "Improved Regularization of CNNs with Cutout".
        """
        n, height, width, channels = images.shape
        side = max(1, round(self.cutout * height))
        rows = _square_positions(draws.hole_y, side, height)
        columns = _square_positions(draws.hole_x, side, width)
        first = torch.arange(n, device=images.device)[:, None] * height
        index = (first + rows)[:, :, None] * width + columns[:, None, :]
        value = torch.as_tensor(fill).to(images).expand(channels)
        images.view(-1, channels)[index.flatten()] = value
        return images


def _reflect(places: Int[Tensor, "n m"], size: int) -> Int[Tensor, "n m"]:
    """Reflect positions outside 0..size − 1 at the border pixel, which is not repeated."""
    last = size - 1
    return (last - (last - places.abs()).abs()).clamp(0, last)


def _factor(draw: Float[Tensor, " n"], spread: float) -> Float[Tensor, " n"]:
    return 1 + spread * (2 * draw - 1)


def _mean_colour(images: Float[Tensor, "n h w c"]) -> Float[Tensor, "n c"]:
    """Mean over rows, then columns: one sum over all pixels has three columns, and is slow."""
    n, height, width, channels = images.shape
    columns = images.reshape(n, height, -1).sum(1)
    return columns.view(n, width, channels).sum(1) / (height * width)


def _mix_channels(
    images: Float[Tensor, "n h w 3"], mix: Float[Tensor, "n 3 3"], shift: Float[Tensor, "n 1 1"]
) -> Float[Tensor, "n h w 3"]:
    """Multiply each pixel by its image's matrix and add the image's shift to all three colours."""
    n, _, width, channels = images.shape
    together = 4 if width % 4 == 0 else 1  # pixels: a product with three columns is slow
    blocks = torch.eye(together, device=images.device)[:, None, :, None] * mix[:, None, :, None, :]
    side = together * channels
    rows = images.reshape(n, -1, side)
    return torch.baddbmm(shift, rows, blocks.view(n, side, side)).view(images.shape)


def _square(values: Float[Tensor, " n"]) -> Float[Tensor, "n 1 1"]:
    return values[:, None, None]


def _column(values: Float[Tensor, " n"]) -> Float[Tensor, "n 1 1 1"]:
    return values[:, None, None, None]


def _square_positions(draw: Float[Tensor, " n"], side: int, size: int) -> Int[Tensor, "n side"]:
    """`side` positions about a random one, clamped to the image."""
    first = (draw * size).floor().long() - side // 2
    places = first[:, None] + torch.arange(side, device=draw.device)
    return places.clamp(0, size - 1)
