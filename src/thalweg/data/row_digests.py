"""Digests of samples, which tell copies and decide splits."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from thalweg.data.images.cache_index import DIGEST_BYTES


def row_digests(rows: Iterable[np.ndarray]) -> np.ndarray:
    """uint8 [n, 16]: a digest of each row's content."""
    joined = b"".join(blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in rows)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
