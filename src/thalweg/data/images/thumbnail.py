"""A decoded image as a small picture for a page."""

from io import BytesIO

import numpy as np
from PIL import Image

LONGEST_SIDE = 128  # pixels; about 4 kB each


def thumbnail(raw: np.ndarray) -> bytes:
    """Encode a uint8 [h, w, c] image as WebP, reduced to at most 128 px, never enlarged."""
    picture = Image.fromarray(raw[..., 0] if raw.shape[-1] == 1 else raw)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = BytesIO()
    lossless = max(raw.shape[:2]) <= 32  # tiny images are shown enlarged, with their artefacts
    picture.convert("RGB").save(file, "WEBP", quality=80, lossless=lossless)
    return file.getvalue()
