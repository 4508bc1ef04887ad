"""Find near copies among images: compressed again, resized, brightened, mirrored, cut a little.

Two steps, on a miniature of each image. A hash brings together candidates: 96 of the miniature's
cosine coefficients, each as one bit, above or below the data set's median, so that every bit halves
the set (locality-sensitive hashing by six bands of them). A comparison then decides: but for
brightness and contrast, the miniatures must agree in *every* cell and colour. How closely, depends
on how many details there are to agree: two strokes that coincide are a common digit, a hundred
leaves that do are a copy. So two objects on one background, two drawings or two skies are none.
Both steps are taken a second time with the mirror image of one of the two.

All sums are of whole numbers and exact in any order: the pairs are the same on every machine.
Source: perceptual hashes by cosine transform, Zauner 2010; near copies across the splits of CIFAR,
Barz and Denzler 2020, arXiv:1902.00423. Measured on copies of 200 photographs: found are 99 % of
those compressed (JPEG 40) or of half the size, 97 % of those with 1.3 × the contrast, 92 % cut by
1 % of each side, 42 % cut by 2 %; among 60,000 images of CIFAR-10 90 pairs, all of them copies by
eye; among 70,000 digits of MNIST 5, all of them upright strokes.
"""

from collections.abc import Iterator

import numpy as np

from thalweg.data.images.memory_map import release
from thalweg.data.near_copies import CopyPairs

SIDE = 16  # cells of a miniature
LEAST_SIZE = 24  # pixels: smaller images are too coarse to tell a copy from a likeness
LEAST_DETAIL = 3.0  # grey levels by which a cell differs from the mean of its neighbours
LEAST_CORRELATION = 0.97
STRICT, LOOSE = 0.3, 0.9  # standard deviations by which copies may differ in one cell …
SPARSE, DENSE = 0.35, 0.45  # … where details are in this share of the cells, or less; or more
SMOOTH, ROUGH = 0.12, 0.2  # … where they have this share of the contrast, or less; or more
BANDS, BITS = 6, 96
MOST_BITS = 18  # of the 96 by which the hashes of copies differ
NEIGHBORS = 24  # candidates of one bucket that each image is compared with
ROWS_AT_ONCE = 64
CELLS_AT_ONCE = 256
PAIRS_AT_ONCE = 256
_NO_PAIRS = np.zeros((0, 2), dtype=np.int64)
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def near_copies(images: np.ndarray, rows: np.ndarray) -> CopyPairs | None:
    """Pairs of rows that hold near copies, also of each other's mirror image.

    `images` are uint8 [n, side, side, channels]; `rows` those to look at. Exact copies are pairs,
    too; a mirrored pair is none that are near copies as they are. None for images below 24 px.
    """
    if images.shape[1] < LEAST_SIZE:
        return None
    cells = miniatures(images, rows)
    amounts, limits = details(cells)
    rich = np.flatnonzero(amounts >= LEAST_DETAIL)
    if len(rich) < 2:
        return CopyPairs(_NO_PAIRS, _NO_PAIRS)
    upright, mirrored = (rich[pairs] for pairs in _candidates(cells[rich]))
    upright = _copies(cells, cells, pairs=upright, limits=limits)
    mirrored = _copies(cells, cells[:, :, ::-1], pairs=mirrored, limits=limits)
    mirrored = mirrored[~np.isin(_codes(mirrored, len(cells)), _codes(upright, len(cells)))]
    return CopyPairs(rows[upright], rows[mirrored])


def _codes(pairs: np.ndarray, count: int) -> np.ndarray:
    """One number for each pair."""
    return np.asarray(pairs[:, 0] * count + pairs[:, 1])


def miniatures(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Means of the pixels in each of 16 × 16 cells, uint8 [n, side, side, channels]."""
    size, channels = images.shape[1], images.shape[3]
    bounds = _bounds(size)
    side = len(bounds) - 1
    areas = np.outer(np.diff(bounds), np.diff(bounds))[:, :, None].astype(np.uint32)
    cells = np.empty((len(rows), side, side, channels), dtype=np.uint8)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        chunk = images[rows[start : start + ROWS_AT_ONCE]].reshape(-1, size, size * channels)
        lines = np.stack(
            [chunk[:, a:b].sum(axis=1, dtype=np.uint32) for a, b in _pairwise(bounds)], axis=1
        ).reshape(-1, side, size, channels)
        sums = np.stack(
            [lines[:, :, a:b].sum(axis=2, dtype=np.uint32) for a, b in _pairwise(bounds)], axis=2
        )
        cells[start : start + len(chunk)] = (2 * sums + areas) // (2 * areas)
        release(images)
    return cells


def _bounds(size: int) -> np.ndarray:
    """The cells' first pixels and the size: the same from left and from right."""
    side = min(SIDE, size // 2)
    side -= (size - side) % 2
    left = np.arange((side + 1) // 2) * size // side
    middle = [size // 2] * (1 - side % 2)
    return np.concatenate([left, np.array(middle, dtype=left.dtype), size - left[::-1]])


def _pairwise(bounds: np.ndarray) -> Iterator[tuple[int, int]]:
    return zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)


def details(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The details of each miniature, and how far copies of it may differ. Both float64 [n].

    The first is the mean difference d of a cell from its four neighbours' mean, in grey levels. The
    second is in standard deviations of the cells: small where the details are in few cells, by
    (Σd)² / (n Σd²), a fifth for an upright stroke and a half for a photograph; or where they are
    little of the contrast, as in a blurred or enlarged image.
    """
    amounts, limits = np.empty(len(cells)), np.empty(len(cells))
    for start in range(0, len(cells), CELLS_AT_ONCE):
        part = slice(start, start + CELLS_AT_ONCE)
        grey = cells[part].sum(axis=3, dtype=np.int32)
        around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        differences = np.abs(4 * grey[:, 1:-1, 1:-1] - around).reshape(len(grey), -1)
        count, sums = differences.shape[1], differences.sum(axis=1, dtype=np.int64)
        squares = np.maximum(1, (differences * differences).sum(axis=1, dtype=np.int64))
        amounts[part] = sums / (count * cells.shape[3] * 4)
        centred = _centred(cells[part].reshape(len(grey), -1))
        deviation = np.sqrt((centred * centred).sum(axis=1) / centred.shape[1] ** 3)
        by_place = np.interp(sums * sums / (count * squares), (SPARSE, DENSE), (STRICT, LOOSE))
        share = amounts[part] / np.maximum(deviation, 1)
        limits[part] = np.minimum(by_place, np.interp(share, (SMOOTH, ROUGH), (STRICT, LOOSE)))
    return amounts, limits


def _candidates(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of miniatures with nearly the same hash, and with nearly that of the mirror image.

    Both int64 [pairs, 2], sorted.
    """
    upright, mirrored = _bits(cells)
    across = _near_hashes(np.concatenate([upright, mirrored]))
    across = across[(across[:, 0] < len(cells)) & (across[:, 1] >= len(cells))]
    across = np.sort(across - np.array([0, len(cells)]), axis=1)
    across = across[across[:, 0] < across[:, 1]]  # and not a symmetric image with itself
    return _near_hashes(upright), np.unique(across, axis=0)


def _near_hashes(bits: np.ndarray) -> np.ndarray:
    """Pairs of rows whose bits are nearly the same, int64 [pairs, 2], sorted."""
    hashes = np.packbits(bits, axis=1)
    width = int(np.clip(np.ceil(np.log2(len(bits))), 4, BITS // BANDS))
    powers = 1 << np.arange(width)
    codes = [bits[:, band::BANDS][:, :width].astype(np.int64) @ powers for band in range(BANDS)]
    pairs = [_same_bucket(codes[band], codes[band - 1], hashes) for band in range(BANDS)]
    return np.unique(np.concatenate(pairs), axis=0)


def _same_bucket(codes: np.ndarray, others: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Pairs with an equal code whose hashes differ in few bits; in a large bucket, neighbours."""
    order = np.lexsort((others, codes))
    pairs = []
    for distance in range(1, min(NEIGHBORS, len(order) - 1) + 1):
        first, second = order[:-distance], order[distance:]
        same = codes[first] == codes[second]
        if not same.any():
            break
        first, second = first[same], second[same]
        near = _ONES[hashes[first] ^ hashes[second]].sum(axis=1) <= MOST_BITS
        pairs.append(np.sort(np.stack([first[near], second[near]], axis=1), axis=1))
    return np.concatenate([_NO_PAIRS, *pairs])


def _bits(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The signs of the lowest cosine coefficients less their medians, and of the mirror images.

    Both bool [n, 96]. In the mirror image coefficients of odd horizontal frequency change sign.
    """
    side = cells.shape[1]
    place = (2 * np.arange(side) + 1) * np.pi / (2 * side)
    waves = np.rint(127 * np.cos(np.outer(np.arange(side), place)))  # [frequency, cell]
    frequencies = np.add.outer(np.arange(side), np.arange(side)).reshape(-1)
    lowest = np.argsort(frequencies, kind="stable")[1 : BITS + 1]
    coefficients = np.empty((len(cells), len(lowest)), dtype=np.float32)
    for start in range(0, len(cells), CELLS_AT_ONCE):
        grey = cells[start : start + CELLS_AT_ONCE].sum(axis=3, dtype=np.float64)
        table = waves @ grey @ waves.T  # of whole numbers below 2⁵³: exact in any order
        coefficients[start : start + len(grey)] = table.reshape(len(grey), -1)[:, lowest]
    medians = np.array([np.median(column) for column in coefficients.T])
    signs = np.where(lowest % side % 2, -1, 1).astype(np.float32)
    return coefficients > medians, coefficients * signs > medians


def _copies(
    cells: np.ndarray, others: np.ndarray, *, pairs: np.ndarray, limits: np.ndarray
) -> np.ndarray:
    """The pairs of a miniature and one of the others that agree in every cell.

    But for brightness and contrast.
    """
    starts = range(0, len(pairs), PAIRS_AT_ONCE)
    parts = [pairs[start : start + PAIRS_AT_ONCE] for start in starts]
    return np.concatenate(
        [_NO_PAIRS, *(part[_agree(cells, others, part, limits=limits)] for part in parts)]
    )


def _agree(
    cells: np.ndarray, others: np.ndarray, pairs: np.ndarray, *, limits: np.ndarray
) -> np.ndarray:
    first, second = cells[pairs[:, 0]], others[pairs[:, 1]]
    first, second = (_centred(values.reshape(len(pairs), -1)) for values in (first, second))
    squares, rests = ((values * values).sum(axis=1) for values in (first, second))
    products = (first * second).sum(axis=1)
    correlation = products / np.sqrt(squares.astype(np.float64) * rests)
    rest = np.abs(second - (products / squares)[:, None] * first).max(axis=1)
    deviation = np.sqrt(rests / first.shape[1])
    limit = np.minimum(limits[pairs[:, 0]], limits[pairs[:, 1]])
    return np.asarray((correlation >= LEAST_CORRELATION) & (rest <= limit * deviation))


def _centred(values: np.ndarray) -> np.ndarray:
    """The values less their mean, times their number: whole numbers, int64 [n, cells]."""
    return values.shape[1] * values.astype(np.int64) - values.sum(axis=1, dtype=np.int64)[:, None]
