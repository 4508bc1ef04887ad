"""Convert arrays of images, of any layout and number type, to uint8 [n, h, w, c] at one size."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from thalweg.data.images.decode import fit
from thalweg.errors import DataError

_CHANNELS = (1, 3, 4)
_ROWS_AT_ONCE = 256  # converted together, to avoid a second copy of all


def eight_bit_images(
    images: Shaped[np.ndarray, "n ..."], path: Path
) -> tuple[UInt8[np.ndarray, "n h w c"], Shaped[np.ndarray, " n"], tuple[str, ...]]:
    """The images as uint8 [n, h, w, c], a mask of the finite ones, and notes."""
    ordered, notes = _channels_last(images, path)
    finite = np.ones(len(ordered), dtype=bool)
    if ordered.dtype.kind == "f":
        finite = np.isfinite(ordered.reshape(len(ordered), -1)).all(axis=1)
    if ordered.dtype != np.uint8:
        low, high, words = _range(ordered[finite])
        notes += (f"pixels of {path.name} ({ordered.dtype}): {words} scaled to 0..255",)
        ordered = _scale_to_bytes(ordered, low, high)
    if ordered.shape[-1] == 4:
        notes += ("the fourth channel is taken as transparency, over white",)
        ordered = _over_white(ordered)
    return ordered, finite, notes


def resize_images(images: UInt8[np.ndarray, "n h w c"], size: int) -> UInt8[np.ndarray, "n s s c"]:
    """Fit every image to a square of `size` px, as files are fitted; images of that size stay."""
    n, height, width, channels = images.shape
    if height == width == size:
        return images
    out = np.empty((n, size, size, channels), dtype=np.uint8)
    for row, pixels in enumerate(images):
        out[row] = np.asarray(fit(picture_of(pixels), size)).reshape(size, size, channels)
    return out


def single_images(images: np.ndarray) -> UInt8[np.ndarray, "n h w c"]:
    """The images of an array: one [height, width], or with channels first or last, or several."""
    is_one = images.ndim == 2 or (
        images.ndim == 3 and (images.shape[-1] in _CHANNELS or images.shape[0] in _CHANNELS)
    )
    return eight_bit_images(images[None] if is_one else images, Path("the array"))[0]


def picture_of(pixels: UInt8[np.ndarray, "h w c"]) -> Image.Image:
    """The image as Pillow has it."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _channels_last(images: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    if images.ndim == 3:
        return images[..., None], ()
    if images.ndim == 4 and images.shape[-1] in _CHANNELS:
        return images, ()
    if images.ndim == 4 and images.shape[1] in _CHANNELS:
        note = f"{path.name} is taken as channels first: {'×'.join(map(str, images.shape))}"
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), (note,)
    raise DataError(
        f"{path}: inputs are neither vectors nor images",
        seen=f"shape {'×'.join(map(str, images.shape))}",
        fix="give n × features, n × height × width, or n × height × width × 1, 3 or 4",
    )


def _range(images: np.ndarray) -> tuple[float, float, str]:
    """The values that become 0 and 255, and both in words."""
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    tops: tuple[float, ...] = (
        (1.0, 255.0, 65535.0) if images.dtype.kind in "fb" else (255.0, 65535.0)
    )
    if images.dtype == np.uint16:
        tops = (65535.0,)
    for top in tops:
        if low >= 0 and high <= top:
            return 0.0, top, f"0..{top:g}"
    return low, high, f"{low:g}..{high:g}, their minimum and maximum,"


def _scale_to_bytes(images: np.ndarray, low: float, high: float) -> np.ndarray:
    out = np.zeros(images.shape, dtype=np.uint8)
    for start in range(0, len(images), _ROWS_AT_ONCE):
        chunk = np.nan_to_num(images[start : start + _ROWS_AT_ONCE].astype(np.float32), posinf=0)
        unit = np.clip((chunk - low) / ((high - low) or 1.0), 0, 1)
        out[start : start + _ROWS_AT_ONCE] = (unit * 255 + 0.5).astype(np.uint8)
    return out


def _over_white(images: np.ndarray) -> np.ndarray:
    alpha = images[..., 3:].astype(np.uint32)
    composed = images[..., :3] * alpha + 255 * (255 - alpha)
    return ((composed + 127) // 255).astype(np.uint8)
