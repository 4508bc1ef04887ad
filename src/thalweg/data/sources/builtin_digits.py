"""The built-in data set: the 1,797 scans of handwritten digits that scikit-learn ships."""

from pathlib import Path

import numpy as np

from thalweg.data.samples import UNSPLIT, Samples
from thalweg.errors import DataError

_MAX_PIXEL = 16  # a pixel counts the dark pixels of a 4 × 4 block


def builtin_digits(path: Path) -> Samples | None:
    """The scans, for the path `digits` if no such file exists."""
    if str(path) != "digits" or path.exists():
        return None
    pixels, targets = scans()
    return Samples(
        inputs=pixels,
        names=tuple(f"digits {row}" for row in range(len(targets))),
        labels=targets.astype(np.float64),
        splits=np.full(len(targets), UNSPLIT, dtype=np.int8),
        label_place="the built-in digits' class",
    )


def scans() -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 [1797, 8, 8, 1], and digits, int64 [1797].

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (the
    test set). Raises DataError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the built-in digits come with scikit-learn, which is not installed",
            seen=str(error),
            fix="pip install 'thalweg[demo]'",
        ) from error
    digits = load_digits()
    pixels = np.round(digits.images * (255 / _MAX_PIXEL)).astype(np.uint8)
    return pixels[..., None], digits.target.astype(np.int64)
