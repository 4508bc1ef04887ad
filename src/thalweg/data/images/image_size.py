"""Sample some images before decoding all: their size, and whether they are grey."""

from statistics import median_low
from typing import NamedTuple

from thalweg.data.images.decode import decode, is_grey, oriented_size
from thalweg.data.images.formats import open_image, read_file
from thalweg.data.samples import Files
from thalweg.errors import DataError

HEADERS = 256  # images whose headers are read, evenly spaced over the set
DECODED = 16  # images that are decoded to see whether RGB files are grey
PHOTOGRAPH_SIZE = 128
TINY_SIZE = 64
MIN_SIZE = 8


class ImageSample(NamedTuple):
    """Size and channels of the sampled images."""

    original_size: tuple[int, int]  # median (height, width), pixels
    channels: int  # 1 if all decoded images are grey


def sample_images(files: Files) -> ImageSample:
    """Median size and number of channels; size (0, 0) if no image can be opened."""
    sizes = [size for name in _spaced(files.names, HEADERS) if (size := _size(files, name))]
    if not sizes:
        return ImageSample((0, 0), 3)
    greys = [
        grey for name in _spaced(files.names, DECODED) if (grey := _grey(files, name)) is not None
    ]
    height, width = (median_low(side) for side in zip(*sizes, strict=True))
    return ImageSample((height, width), 1 if greys and all(greys) else 3)


def training_size(original_size: tuple[int, int]) -> tuple[int, str]:
    """Side of the square to train at, in pixels, and the reason.

    Tiny images keep their size: every pixel counts, and the networks are built for it. Photographs
    are resized to 128 px: (128 / 224)² = 33 % of the arithmetic and of the cache of the customary
    224 px, while the objects in such data sets fill most of the picture. In between, the size is
    the largest multiple of 8 that does not enlarge, since networks halve three times or more.
    """
    side = min(original_size)
    if side <= TINY_SIZE:
        return max(side, MIN_SIZE), "the images' own size"
    if side < PHOTOGRAPH_SIZE:
        return side // 8 * 8, "the images' own size, in eights"
    share = PHOTOGRAPH_SIZE**2 / 224**2
    return PHOTOGRAPH_SIZE, f"photographs: {share:.0%} of the work of 224 px; --image-size for more"


def _spaced(names: tuple[str, ...], most: int) -> list[str]:
    count = min(most, len(names))
    return [names[i * len(names) // count] for i in range(count)]


def _size(files: Files, name: str) -> tuple[int, int] | None:
    try:
        return oriented_size(open_image(read_file(files.root / name)))
    except DataError:
        return None


def _grey(files: Files, name: str) -> bool | None:
    try:
        return is_grey(decode(read_file(files.root / name), size=TINY_SIZE).pixels)
    except DataError:
        return None
