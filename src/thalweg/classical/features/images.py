"""Check and convert images, and extract features from them in batches."""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from thalweg.errors import DataError

Images = Shaped[Tensor, "image channel y x"]
Feature = Callable[[Tensor], Tensor]  # images → one row per image


def check_images(images: Shaped[Tensor, "..."], *, channels: int = 0, smallest: int = 1) -> None:
    """Check that images are [image, channel, y, x], uint8 or floats, of at least `smallest` px.

    Raises: DataError.
    """
    fits = images.ndim == 4 and images.numel() > 0
    if not fits or (channels and images.shape[1] != channels):
        raise DataError(
            f"images must be [image, {channels or 'channel'}, y, x], at least one",
            seen=f"shape {tuple(images.shape)}",
            fix="images.permute(0, 3, 1, 2) where the channels come last",
        )
    if min(images.shape[2:]) < smallest:
        raise DataError(
            "the images are too small for this feature",
            seen=f"{images.shape[3]} × {images.shape[2]} px, at least {smallest} are needed",
            fix="larger images, or a smaller cell or patch",
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise DataError(
            "images must be uint8 or floating point", seen=str(images.dtype), fix="/ 255"
        )


def as_floats(images: Images) -> Images:
    """Scale bytes 0…255 to 0…1; return floats as they are. Raises: DataError unless finite."""
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    lowest, highest = torch.aminmax(images)
    if not (torch.isfinite(lowest) & torch.isfinite(highest)):
        index = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise DataError(
            "images must be finite", seen=f"NaN or infinity in image {index} of a batch"
        )
    return images


def in_batches(feature: Feature, images: Images, *, batch_size: int) -> Tensor:
    """Extract the feature `batch_size` images at a time, to bound memory."""
    return torch.cat([feature(batch) for batch in images.split(max(1, batch_size))])
