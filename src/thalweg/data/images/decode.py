"""The decode policy: from the bytes of an image file to a square of 8-bit pixels.

One policy for training, validation, prediction and serving. Raise `POLICY_VERSION` with every
change that can move a pixel: caches are then rebuilt, and older models refuse to predict.

- The size is read from the header, and too large an image refused, before decoding (`formats.py`).
- JPEGs are decoded at a half, quarter or eighth (libjpeg's scaled transform) if that leaves at
  least twice the training size; an antialiased bicubic filter does the rest.
- The EXIF orientation is applied. Colour profiles are not: pixels count as sRGB.
- 16 bits are scaled by their range, 0..65535 → 0..255; floats by the first of 0..1, 0..255 and
  0..65535 that holds them, else from their own least to their greatest. Nothing is clipped.
- Transparency is composed over white. An animation gives its first frame.
- The short side is resized to the training size and the middle cropped; beyond an aspect of 2:1,
  where that would lose half of the picture, the long side is resized and grey bars fill the rest.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from PIL.ImageFile import ImageFile

from thalweg.data.images.formats import open_image, reason_of
from thalweg.data.images.pillow_warnings import no_pillow_warnings
from thalweg.errors import DataError

POLICY_VERSION = 1
EXTREME_ASPECT = 2.0
PADDING_GREY = 127  # near the mean, so that the bars are near 0 after normalisation
_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

Remark = str
ANIMATED: Remark = "animated, or of many pages (the first is used)"
PROFILE: Remark = "in a colour profile other than sRGB (ignored)"
DEEP: Remark = "of 16 bits (0..65535 scaled to 0..255)"
DARK: Remark = "of 16 bits but at most 12 in use (0..65535 scaled to 0..255: nearly black)"
FLOATS: Remark = "of floating point (scaled to 0..255 by range)"
PADDED: Remark = f"more than {EXTREME_ASPECT:g} times as long as wide (padded with grey)"
FLAT: Remark = "all of one colour"
REMARKS = (ANIMATED, PROFILE, DEEP, DARK, FLOATS, PADDED, FLAT)


class Decoded(NamedTuple):
    pixels: UInt8[np.ndarray, "size size channels"]  # 1 channel if the file is grey, else 3
    remarks: tuple[Remark, ...]


def decode(data: bytes, *, size: int) -> Decoded:
    """Decode an image file to a square of `size` pixels. DataError if it is no image."""
    image = open_image(data)
    try:
        with no_pillow_warnings:
            remarks = _header_remarks(image)
            image.draft(None, (2 * size, 2 * size))
            image.load()
            flat, scaling = _eight_bits(_upright(image))
    except DataError:
        raise
    except Exception as error:  # Pillow raises any kind of error for a damaged file
        raise DataError(_damage(error)) from error
    pixels = np.asarray(fit(flat, size)).reshape(size, size, -1)
    padded = (PADDED,) if _is_extreme(flat) else ()
    uniform = (FLAT,) if (pixels == pixels[0, 0]).all() else ()
    return Decoded(pixels, remarks + scaling + padded + uniform)


def fit(image: Image.Image, size: int) -> Image.Image:
    """The image as a square: its middle cropped, or padded if it is extremely long."""
    width, height = image.size
    if width == height == size:
        return image
    if _is_extreme(image):
        return _pad(image, size)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def with_channels(
    pixels: UInt8[np.ndarray, "h w c"], channels: int
) -> UInt8[np.ndarray, "h w channels"]:
    """Grey repeated as three channels, or colours as their luminance (ITU-R 601)."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)  # / 65536; they sum to 65536
    luminance = (pixels.astype(np.uint32) @ weights + 0x8000) >> 16
    return luminance.astype(np.uint8)[..., None]


def is_grey(pixels: UInt8[np.ndarray, "... c"]) -> bool:
    """Return whether all channels are equal everywhere."""
    return pixels.shape[-1] == 1 or bool((pixels == pixels[..., :1]).all())


def _is_extreme(image: Image.Image) -> bool:
    return max(image.size) > EXTREME_ASPECT * min(image.size)


def _pad(image: Image.Image, size: int) -> Image.Image:
    width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
    canvas = Image.new(image.mode, (size, size), (PADDING_GREY,) * len(image.getbands()))
    small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    canvas.paste(small, ((size - width) // 2, (size - height) // 2))
    return canvas


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an image from its header, in its EXIF orientation."""
    width, height = image.size
    return (width, height) if _orientation(image) >= 5 else (height, width)


def _upright(image: Image.Image) -> Image.Image:
    transpose = _TRANSPOSES.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if the EXIF is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # Pillow raises any kind of error for damaged EXIF
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSES else 1


def _eight_bits(image: Image.Image) -> tuple[Image.Image, tuple[Remark, ...]]:
    """The image in mode L or RGB, and a remark about its scaling."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        pixels, remark = _scale_to_bytes(image)
        return Image.fromarray(pixels), (remark,)
    return _plain(image), ()


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return _from_lab(image)
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _over_white(image).convert(mode)
    return image if image.mode == mode else image.convert(mode)


def _over_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _from_lab(image: Image.Image) -> Image.Image:
    """Pillow converts CIELAB only through its colour management."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


def _scale_to_bytes(image: Image.Image) -> tuple[UInt8[np.ndarray, "h w"], Remark]:
    """Scale 16-bit, 32-bit or float pixels by their range."""
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError("pixels that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if image.mode != "F" and low >= 0 and high <= 65535:
        return _round(values * (255 / 65535)), DARK if 0 < high < 1 << 12 else DEEP
    for top in (1.0, 255.0, 65535.0):
        if low >= 0 and high <= top:
            return _round(values * (255 / top)), FLOATS
    return _round((values - low) * (255 / max(high - low, 1e-30))), FLOATS


def _round(values: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    return (values + 0.5).astype(np.uint8)


def _header_remarks(image: ImageFile) -> tuple[Remark, ...]:
    """Remarks about what the header states and decoding ignores."""
    profile = image.info.get("icc_profile") or b""
    # Profile texts are ASCII or UTF-16 by version.
    foreign = profile and not any(name in profile for name in (b"sRGB", b"s\0R\0G\0B"))
    animated = (ANIMATED,) if _is_animated(image) else ()
    return animated + ((PROFILE,) if foreign else ())


def _is_animated(image: ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame does not matter
        return False


def _damage(error: Exception) -> str:
    reason = reason_of(error)
    cut = "truncated" in reason or isinstance(error, EOFError)
    return f"truncated: {reason}" if cut else f"damaged: {reason}"
