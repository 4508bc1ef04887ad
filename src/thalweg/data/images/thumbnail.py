"""A decoded sample as a small picture that a page can show."""

from io import BytesIO

import numpy as np
from PIL import Image

LONGEST_SIDE = 128  # pixels; about 4 kB each


def thumbnail(raw: np.ndarray) -> bytes:
    """The WebP bytes of a uint8 [h, w, c] image, shrunk to at most 128 px, never enlarged."""
    picture = Image.fromarray(raw[..., 0] if raw.shape[-1] == 1 else raw)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = BytesIO()
    lossless = max(raw.shape[:2]) <= 32  # tiny images are shown enlarged: artefacts would be too
    picture.convert("RGB").save(file, "WEBP", quality=80, lossless=lossless)
    return file.getvalue()
