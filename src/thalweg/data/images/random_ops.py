"""RandAugment: one of a dozen random operations for each image, a whole batch at a time.

Source: Cubuk et al. 2020 (RandAugment), https://arxiv.org/abs/1909.13719; the ranges at full
strength are theirs. Operations that can turn a class into another (upside down, negatives) are left
out. Images with the same operation are gathered and changed together, without a loop over images.
"""

from collections.abc import Callable
from functools import lru_cache
from math import pi

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from thalweg.data.batch import Part, part_of, to_device

Images = Float[Tensor, "n h w c"]  # pixels in 0..255
Strength = Float[Tensor, " n"]  # −1 to 1, times the magnitude
Op = Callable[[Tensor, Tensor], Tensor]

TURN = pi / 6  # 30°
SHEAR = 0.3
SHIFT = 0.3  # of the side
FACTOR = 0.9  # brightness, contrast, colour and sharpness: 1 ± this
GREY = (0.299, 0.587, 0.114)  # ITU-R 601
_BLUR = ((1, 1, 1), (1, 5, 1), (1, 1, 1))  # Pillow's SMOOTH, over 13


def random_op(
    images: Images,
    generator: Generator,
    *,
    magnitude: float,
    turn: int = 0,
    part: Part | None = None,
) -> Images:
    """Apply a random operation of `OPS` to each image, with a strength of up to ± magnitude.

    `turn` is the number of the operation in a chain: on a GPU the choice follows from it and the
    generator's seed. For images that are `part` of a batch, random numbers are drawn for all of it.
    """
    part = part or part_of(len(images))
    chosen, draws = map(part.of, _draw(part.rows, generator, turn=turn))
    strength = (2 * draws.to(images.device) - 1) * magnitude
    out = images.clone()
    for index, change in enumerate(OPS):
        rows = (chosen == index).nonzero()[:, 0]
        if len(rows):
            rows = to_device(rows, images.device)
            out[rows] = change(images[rows], strength[rows]).clamp(0, 255)
    return out


def _draw(n: int, generator: Generator, *, turn: int) -> tuple[Tensor, Tensor]:
    """Each image's operation, on the CPU, and a number in [0, 1), on the generator's device.

    The host draws the operations itself, since it needs the number of images of each: reading it
    from a GPU would wait for all queued work.
    """
    device = generator.device
    if device.type == "cpu":
        draws = torch.rand(2, n, generator=generator)
        return (draws[0] * len(OPS)).long().clamp(max=len(OPS) - 1), draws[1]
    chosen = torch.randint(len(OPS), (n,), generator=_cpu_generator(generator, turn))
    return chosen, torch.rand(n, generator=generator, device=device)


def _cpu_generator(generator: Generator, turn: int) -> Generator:
    """A CPU generator that follows from the other's seed."""
    return Generator().manual_seed((generator.initial_seed() + turn) % 2**63)


def identity(images: Images, strength: Strength) -> Images:
    """The images as they are."""
    return images


def rotate(images: Images, strength: Strength) -> Images:
    """Turned about the middle, by up to 30° either way."""
    angle = strength * TURN
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _warp(images, torch.stack((cos, -sin, zero, sin, cos, zero), dim=1))


def shear_x(images: Images, strength: Strength) -> Images:
    """Rows shifted in proportion to their height."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, torch.stack((one, strength * SHEAR, zero, zero, one, zero), dim=1))


def shear_y(images: Images, strength: Strength) -> Images:
    """Columns shifted in proportion to their place."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, torch.stack((one, zero, zero, strength * SHEAR, one, zero), dim=1))


def shift_x(images: Images, strength: Strength) -> Images:
    """To the left or right, by up to 30 % of the side."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, torch.stack((one, zero, 2 * SHIFT * strength, zero, one, zero), dim=1))


def shift_y(images: Images, strength: Strength) -> Images:
    """Up or down, by up to 30 % of the side."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, torch.stack((one, zero, zero, zero, one, 2 * SHIFT * strength), dim=1))


def brightness(images: Images, strength: Strength) -> Images:
    """Blended with black, or the other way."""
    return images * _factor(strength)


def contrast(images: Images, strength: Strength) -> Images:
    """Blended with the image's mean grey, or the other way."""
    mean = image_means(_grey(images))
    return mean + (images - mean) * _factor(strength)


def colour(images: Images, strength: Strength) -> Images:
    """Blended with the grey image, or the other way; a grey image stays as it is."""
    grey = _grey(images)
    return grey + (images - grey) * _factor(strength)


def sharpness(images: Images, strength: Strength) -> Images:
    """Blended with a smoothed image, or the other way."""
    channels = images.shape[-1]
    kernel = _smoothing(images.device).expand(channels, 1, 3, 3)
    # A single grey image would go through another kernel than several, with other last bits.
    several = _two_at_least(images) if channels == 1 else images
    planes = F.pad(several.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    smooth = F.conv2d(planes, kernel, groups=channels).permute(0, 2, 3, 1)[: len(images)]
    return smooth + (images - smooth) * _factor(strength)


def posterize(images: Images, strength: Strength) -> Images:
    """Only the 8 to 4 highest bits of each pixel are kept."""
    step = torch.exp2((strength.abs() * 4).round())[:, None, None, None]
    return (images / step).floor() * step


def autocontrast(images: Images, strength: Strength) -> Images:
    """Each channel stretched to 0..255; a channel of one value stays as it is."""
    low = images.amin(dim=(1, 2), keepdim=True)
    spread = images.amax(dim=(1, 2), keepdim=True) - low
    return torch.where(spread > 0, (images - low) * 255 / spread.clamp_min(1e-6), images)


OPS: tuple[Op, ...] = (
    identity,
    rotate,
    shear_x,
    shear_y,
    shift_x,
    shift_y,
    brightness,
    contrast,
    colour,
    sharpness,
    posterize,
    autocontrast,
)


def _warp(images: Images, affine: Float[Tensor, "n 6"]) -> Images:
    """Warp bilinearly; pixels from outside repeat the border."""
    n, height, width, channels = images.shape
    square = affine.view(n, 2, 3).clone()
    square[:, 0, 1] *= height / width  # turns and shears in pixels, not in units of the sides
    square[:, 1, 0] *= width / height
    grid = F.affine_grid(square, [n, channels, height, width], align_corners=False)
    planes = images.permute(0, 3, 1, 2)
    moved = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return moved.permute(0, 2, 3, 1)


def grey_values(colours: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
    """Weigh red, green and blue, added from left to right.

    A product of matrices rounds a row by how many there are and by the processor: a rank's part of
    a batch would differ in its last bits from the same rows of the whole.
    """
    red, green, blue = colours.unbind(-1)
    return red * GREY[0] + green * GREY[1] + blue * GREY[2]


def image_means(images: Images) -> Float[Tensor, "n 1 1 1"]:
    """Average each image's values; one image alone as if it were one of several.

    Where there is only one sum, torch divides it among its threads, and rounds it in another way.
    """
    return _two_at_least(images).mean(dim=(1, 2, 3), keepdim=True)[: len(images)]


def _two_at_least(images: Images) -> Float[Tensor, "m h w c"]:
    """Repeat an image that is alone: torch has kernels of their own for one, with other bits."""
    return torch.cat((images, images)) if len(images) == 1 else images


def _grey(images: Images) -> Float[Tensor, "n h w 1"]:
    if images.shape[-1] != 3:
        return images.mean(dim=-1, keepdim=True)
    return grey_values(images)[..., None]


@lru_cache(maxsize=16)
def _smoothing(device: torch.device) -> Float[Tensor, "3 3"]:
    with torch.inference_mode(False):
        return torch.tensor(_BLUR, device=device, dtype=torch.float32) / 13


@lru_cache(maxsize=16)
def grey_weights(device: torch.device) -> Float[Tensor, " 3"]:
    """Weights of red, green and blue in grey, cached: copying them waits for the device."""
    with torch.inference_mode(False):  # else autograd could not use the cached tensor
        return torch.tensor(GREY, device=device)


def _factor(strength: Strength) -> Float[Tensor, "n 1 1 1"]:
    return (1 + FACTOR * strength)[:, None, None, None]
