"""Mean and standard deviation of the training split alone."""

from collections.abc import Callable

import numpy as np

from thalweg.data.images.memory_map import release

MOST_VALUES = 10_000_000  # pixels × channels that are read; of more, evenly spaced images
ROWS_AT_ONCE = 64
_LEAST_STD = 1 / 255  # of a constant set: one grey level

Moments = tuple[tuple[float, ...], tuple[float, ...]]


def image_statistics(
    images: np.ndarray,
    rows: np.ndarray,
    *,
    wait_for: Callable[[np.ndarray], None] = lambda rows: None,
) -> Moments:
    """Mean and standard deviation of each channel, of pixels in 0..1.

    Beyond 10⁷ values, of evenly spaced rows: 203 photographs of 128 px, whose mean's standard error
    is about 0.01. `wait_for` waits until these are decoded.
    """
    most = max(1, MOST_VALUES // int(np.prod(images.shape[1:])))
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    wait_for(rows)
    channels = images.shape[-1]
    total = np.zeros(channels)
    squares = np.zeros(channels)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        chunk = images[rows[start : start + ROWS_AT_ONCE]]
        # Sums of whole numbers, exact in any order. Along rows of pixels: columns as narrow as a
        # colour are slow to sum.
        for image in chunk.reshape(len(chunk), images.shape[1], -1):
            total += image.sum(axis=0, dtype=np.uint32).reshape(-1, channels).sum(axis=0)
            values = image.astype(np.uint16)
            values *= values  # at most 255², which sixteen bits hold
            squares += values.sum(axis=0, dtype=np.uint32).reshape(-1, channels).sum(axis=0)
        release(images)
    count = len(rows) * images.shape[1] * images.shape[2]
    mean = total / count / 255
    std = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, _LEAST_STD**2))
    return tuple(mean.tolist()), tuple(std.tolist())


def vector_statistics(
    vectors: np.ndarray, rows: np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    """Mean and deviation of each number over these rows, missing ones left out, and notes.

    A feature that never varies gets deviation 1: it becomes 0.
    """
    train = vectors[rows].astype(np.float64)
    finite = np.isfinite(train)
    counts = np.maximum(finite.sum(axis=0), 1)
    mean = np.where(finite, train, 0).sum(axis=0) / counts
    spread = np.where(finite, train - mean, 0)
    std = np.sqrt((spread**2).sum(axis=0) / counts)
    constant = ~(std > 1e-12 * np.maximum(1.0, np.abs(mean)))
    notes = []
    holes = ~np.isfinite(vectors)
    if holes.any():
        notes.append(
            f"{int(holes.sum()):,} missing numbers in {int(holes.any(axis=0).sum()):,} of "
            f"{vectors.shape[1]:,} features: filled with the feature's training mean"
        )
    if constant.any():
        notes.append(f"{int(constant.sum()):,} features never vary in train: they carry nothing")
    std = np.where(constant, 1.0, std)
    return tuple(mean.tolist()), tuple(std.tolist()), tuple(notes)
