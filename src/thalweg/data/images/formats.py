"""Read image files without hanging, detect their format by the first bytes, open them in limits.

Only the formats below are opened: each reader is a parser that an attacker can reach, and Pillow's
less used ones (EPS, PDF, FITS, PSD, …) had the worst security holes.
"""

import os
import stat
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from thalweg.data.images.pillow_warnings import no_pillow_warnings
from thalweg.errors import DataError

MAX_PIXELS = 178_956_970  # Pillow's own bomb limit: 2 × (1 GiB / 4 / 3 bytes a pixel)
MAX_FILE_BYTES = 1 << 30
SNIFFED_BYTES = 16


class Format(NamedTuple):
    """A supported image format: name, first bytes, Pillow's reader."""

    name: str
    starts: tuple[bytes, ...]
    reader: Callable[[BytesIO], ImageFile]


# The plain readers, not `Image.open`, which warns through process-wide state, loads every plug-in,
# and turns a phone's multi-picture JPEG into an animation.
FORMATS = (
    Format("JPEG", (b"\xff\xd8\xff",), JpegImageFile),
    Format("PNG", (b"\x89PNG\r\n\x1a\n",), PngImageFile),
    Format("WebP", (b"RIFF",), WebPImageFile),
    Format("GIF", (b"GIF87a", b"GIF89a"), GifImageFile),
    Format("BMP", (b"BM",), BmpImageFile),
    Format(
        "TIFF",
        (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b"),
        TiffImageFile,
    ),
    Format("PPM", (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), PpmImageFile),
)


def _heic_reader(file: BytesIO) -> ImageFile:
    import pillow_heif

    reader: Any = pillow_heif.HeifImageFile
    return reader(file)


# A box of the size that the first four bytes say, whose brand stands after its type.
AVIF = Format("AVIF", (b"ftypavif", b"ftypavis"), AvifImageFile)
HEIC = Format(
    "HEIC",
    tuple(b"ftyp" + mark for mark in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")),
    _heic_reader,
)
HAS_AVIF = bool(features.check("avif"))  # Pillow's wheels hold the decoder, other builds may not
HAS_HEIC = find_spec("pillow_heif") is not None
READ = (
    *(format_.name for format_ in FORMATS),
    *([AVIF.name] if HAS_AVIF else []),
    *([HEIC.name] if HAS_HEIC else []),
)
_HEIC_SUFFIXES = (".heic", ".heif", ".hif")
SUFFIXES = frozenset(
    {
        *([".avif"] if HAS_AVIF else []),
        *(_HEIC_SUFFIXES if HAS_HEIC else ()),
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    }
)
# Unsupported images, listed so that they are quarantined with advice instead of ignored.
FOREIGN_SUFFIXES = frozenset(
    {
        *([] if HAS_AVIF else [".avif"]),
        *(() if HAS_HEIC else _HEIC_SUFFIXES),
        *(".jxl", ".jp2", ".svg", ".psd", ".eps", ".ico", ".dng"),
        *(".cr2", ".cr3", ".nef", ".arw", ".raw", ".exr", ".hdr"),
    }
)
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}
_TRAILER_BYTES = 1024  # cameras and editors append data to a JPEG
_CONVERT = "convert it to JPEG or PNG"
_NOT_IMAGES = (
    (b"\x00\x00\x00", "ftyp", "an AVIF or video file"),
    (b"%PDF", "", "a PDF document"),
    (b"PK\x03\x04", "", "a zip archive"),
    (b"\x1f\x8b", "", "a gzip archive"),
)


def suffix_of(name: str) -> str:
    """The suffix in small letters, such as ".jpg"."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (a Path for each file costs more)


def read_file(path: Path) -> bytes:
    """Read a regular file. DataError for any other kind of file, or if it cannot be read."""
    try:
        # Non-blocking: opening a pipe without a writer would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DataError("not a regular file", fix="name a file, or a folder of images")
            if status.st_size > MAX_FILE_BYTES:
                raise DataError(f"{status.st_size / 1e9:.1f} GB: larger than any image should be")
            return _contents(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except OSError as error:
        fix = "check that it exists and may be read"
        raise DataError(error.strerror or str(error), fix=fix) from error


def _contents(descriptor: int, size: int) -> bytes:
    """All bytes, in one call unless the file has grown; a file object would take twice the time."""
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def format_of(start: bytes) -> Format | None:
    """The format of a file by its first bytes; None if unsupported."""
    for format_ in FORMATS:
        if start.startswith(format_.starts):
            if format_.name == "WebP" and start[8:12] != b"WEBP":
                continue  # RIFF also holds sound and video
            return format_
    if HAS_AVIF and start[4:].startswith(AVIF.starts):
        return AVIF
    return HEIC if HAS_HEIC and start[4:].startswith(HEIC.starts) else None


def is_whole(data: bytes) -> bool:
    """Return whether start and end fit the format, if its end is defined; nothing is decoded."""
    format_ = format_of(data[:SNIFFED_BYTES])
    if format_ is None:
        return False
    if format_.name == "WebP":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if format_ in (AVIF, HEIC):
        return _has_whole_boxes(data)
    end = _ENDS.get(format_.name, b"")
    return end in data[-_TRAILER_BYTES:]


def _has_whole_boxes(data: bytes) -> bool:
    """Return whether the outer boxes of an AVIF or HEIC file fill it, media data among them."""
    place, kinds = 0, set[bytes]()
    while place < len(data):
        size = int.from_bytes(data[place : place + 4]) or len(data) - place  # 0: up to the end
        kinds.add(data[place + 4 : place + 8])
        place += max(size, 8)
    return place == len(data) and b"mdat" in kinds


def open_image(data: bytes) -> ImageFile:
    """Read the header of an image, not its pixels. DataError if the image is not allowed."""
    format_ = format_of(data[:SNIFFED_BYTES])
    if format_ is None:
        raise DataError(_other_kind(data), fix=_CONVERT)
    try:
        with no_pillow_warnings:
            image = format_.reader(BytesIO(data))
    except Image.DecompressionBombError as error:  # WebP's reader checks before it allocates
        raise DataError("too many pixels", fix="make it smaller") from error
    except Exception as error:  # damaged headers raise any kind of error
        raise DataError(f"damaged {format_.name}: {reason_of(error)}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise DataError(f"{width} × {height} pixels")
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{width:,} × {height:,} pixels: the limit is {MAX_PIXELS / 1e6:.0f} million",
            fix="make it smaller",
        )
    return image


def reason_of(error: BaseException) -> str:
    """The message of an error on one short line."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def _other_kind(data: bytes) -> str:
    """The kind of a file that is no image, from its first bytes."""
    if not data:
        return "empty file"
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page, not an image"
    if start.startswith((b"<svg", b"<?xml")):
        return "an SVG or XML document, not a raster image"
    if data[4:].startswith(HEIC.starts):
        return "a HEIC file, whose decoder is not installed: pip install pillow-heif, or convert it"
    for magic, mark, name in _NOT_IMAGES:
        if data.startswith(magic) and mark.encode() in data[4:12]:
            return f"{name}: {', '.join(READ)} are read"
    return f"not an image: {', '.join(READ)} are read"
