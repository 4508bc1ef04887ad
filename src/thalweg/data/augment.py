"""Images changed at random, a whole batch at a time, on the device that holds it.

Every sample has parameters of its own, all drawn at once from the generator; there is no loop over
samples. Applied to pixels before they are normalised, in this order: crop and flip, colour,
random changes, cutout.
"""

from dataclasses import dataclass
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import grid_sample

from thalweg.data.random_ops import random_op

_LOG_RATIO = log(4 / 3)  # crops are 3:4 to 4:3, as in Szegedy et al. 2014, "Going Deeper"
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601 luminance of red, green and blue
_MIDDLE = 127.5


class Draws(NamedTuple):
    """Numbers in [0, 1), one a sample: all the chance there is in a batch."""

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
    """What is done to training images: the values that a recipe states, with the same meaning."""

    flip: bool = False  # left–right, half of the images
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
    ) -> Num[Tensor, "n h w c"]:
        """The images, pixels in 0..255, changed: of the same type where exact, else float32.

        `fill` is what cutout leaves, one value or one a channel.
        """
        shape = (len(Draws._fields), len(raw))
        draws = Draws(*torch.rand(shape, generator=generator, device=raw.device))
        images = self.moved(raw, draws)
        if self.brightness or self.contrast or self.saturation:
            images = self.coloured(images.float(), draws)
        for _ in range(self.random_ops):
            images = random_op(images.float(), generator, magnitude=self.random_magnitude)
        if self.cutout:
            images = self.cut_out(images.clone() if images is raw else images, draws, fill)
        return images

    def moved(self, images: Num[Tensor, "n h w c"], draws: Draws) -> Num[Tensor, "n h w c"]:
        """Cropped from inside a reflected border, resized from a random box, flipped."""
        if not (self.flip or self.crop_padding or self.crop_scale < 1):
            return images
        n, height, width, channels = images.shape
        rows, columns = self._coordinates(height, width, draws)
        if self.crop_scale < 1:
            return _interpolated(images, rows, columns)
        # Whole pixels move: one gather of pixels, exact in any type.
        first = torch.arange(n, device=images.device, dtype=torch.int32)[:, None] * height
        index = (first + rows.int())[:, :, None] * width + columns.int()[:, None, :]
        pixels = images.reshape(-1, channels).index_select(0, index.flatten())
        return pixels.view(n, height, width, channels)

    def _coordinates(
        self, height: int, width: int, draws: Draws
    ) -> tuple[Float[Tensor, "n h"], Float[Tensor, "n w"]]:
        """Where each row and each column of the result is taken from, in pixels of the source."""
        box_height, box_width = self._box(height, width, draws)
        reach = 2 * self.crop_padding + 1
        down = (draws.down * reach).floor() - self.crop_padding
        right = (draws.right * reach).floor() - self.crop_padding
        top = draws.top * (height - box_height) + down
        left = draws.left * (width - box_width) + right
        rows = _spread(top, box_height, height)
        columns = _spread(left, box_width, width)
        if self.flip:
            columns = torch.where((draws.flip < 0.5)[:, None], columns.flip(1), columns)
        return _reflected(rows, height), _reflected(columns, width)

    def _box(
        self, height: int, width: int, draws: Draws
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Height and width of each sample's crop, pixels."""
        if self.crop_scale >= 1:
            whole = torch.ones_like(draws.area)
            return whole * height, whole * width
        area = self.crop_scale + (1 - self.crop_scale) * draws.area
        ratio = ((2 * draws.ratio - 1) * _LOG_RATIO).exp()
        high, wide = (area / ratio).sqrt(), (area * ratio).sqrt()
        return high.clamp(max=1) * height, wide.clamp(max=1) * width

    def coloured(self, images: Float[Tensor, "n h w c"], draws: Draws) -> Float[Tensor, "n h w c"]:
        """Brightness, then contrast about the mean grey, then saturation; clipped to 0..255 once.

        All three are affine in the pixel and its grey, so they are applied together.
        """
        bright = _factor(draws.brightness, self.brightness)
        contrast = _factor(draws.contrast, self.contrast)
        saturation = _factor(draws.saturation, self.saturation)
        if images.shape[-1] != 3:
            saturation = torch.ones_like(saturation)  # a grey is its own grey
        out = images * (bright * contrast * saturation)
        if not (self.contrast or self.saturation):
            return out.clamp_(0, 255)
        grey = images
        if images.shape[-1] == 3:
            grey = (images @ images.new_tensor(_GREY))[..., None]
        out += bright * (1 - contrast) * grey.mean(dim=(1, 2, 3), keepdim=True)
        out.addcmul_(grey, bright * contrast * (1 - saturation))
        return out.clamp_(0, 255)

    def cut_out(
        self, images: Num[Tensor, "n h w c"], draws: Draws, fill: float | Float[Tensor, " c"]
    ) -> Num[Tensor, "n h w c"]:
        """The same tensor, with a square about a pixel anywhere filled; cut off at the border.

        Source: DeVries and Taylor 2017, "Improved Regularization of CNNs with Cutout".
        """
        n, height, width, channels = images.shape
        side = max(1, round(self.cutout * height))
        rows = _covered(draws.hole_y, side, height)
        columns = _covered(draws.hole_x, side, width)
        first = torch.arange(n, device=images.device)[:, None] * height
        index = (first + rows)[:, :, None] * width + columns[:, None, :]
        value = torch.as_tensor(fill).to(images).expand(channels)
        images.view(-1, channels)[index.flatten()] = value
        return images


def _spread(start: Float[Tensor, " n"], length: Float[Tensor, " n"], count: int) -> Tensor:
    """The centres of `count` equal parts of [start, start + length), as pixel coordinates."""
    parts = torch.arange(count, device=start.device, dtype=start.dtype) + 0.5
    return start[:, None] + parts * (length / count)[:, None] - 0.5


def _reflected(places: Float[Tensor, "n m"], size: int) -> Float[Tensor, "n m"]:
    """Places outside 0..size − 1 mirrored at the border pixel, which is not repeated."""
    last = size - 1
    return (last - (last - places.abs()).abs()).clamp(0, last)


def _interpolated(
    images: Num[Tensor, "n h w c"], rows: Float[Tensor, "n h"], columns: Float[Tensor, "n w"]
) -> Float[Tensor, "n h w c"]:
    """Bilinear values at (row, column); crops never shrink, so there is nothing to antialias."""
    height, width = images.shape[1:3]
    y = ((rows + 0.5) * (2 / height) - 1)[:, :, None].expand(-1, -1, width)
    x = ((columns + 0.5) * (2 / width) - 1)[:, None, :].expand(-1, height, -1)
    planes = images.float().permute(0, 3, 1, 2)
    grid = torch.stack((x, y), dim=-1)
    taken = grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return taken.permute(0, 2, 3, 1).contiguous()


def _factor(draw: Float[Tensor, " n"], spread: float) -> Float[Tensor, "n 1 1 1"]:
    return (1 + spread * (2 * draw - 1))[:, None, None, None]


def _covered(draw: Float[Tensor, " n"], side: int, size: int) -> Int[Tensor, "n side"]:
    """A run of `side` places about a random one; what lies outside falls on the border."""
    first = (draw * size).floor().long() - side // 2
    places = first[:, None] + torch.arange(side, device=draw.device)
    return places.clamp(0, size - 1)
