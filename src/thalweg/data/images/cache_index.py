"""What the rows of a cache entry were decoded from, and which of it may have changed since."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import Row
from thalweg.data.samples import Files

DIGEST_BYTES = 16
RACY_NS = 2_000_000_000  # a file changed this shortly before it was read may change again unseen


class Index(NamedTuple):
    """What an entry's rows were decoded from."""

    names: np.ndarray  # the files' names, joined by NUL, as bytes
    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    digests: np.ndarray  # uint8 [n, 16]
    remarks: np.ndarray  # uint16 [n], one bit for each of REMARKS
    reasons: np.ndarray  # str [n], "" where it was decoded
    checked: np.ndarray  # int64 []: when the stats were taken, ns since 1970


def read_index(path: Path) -> Index | None:
    try:
        with (path / cache.INDEX).open("rb") as file, np.load(file) as stored:
            return Index(*(stored[name] for name in Index._fields))
    except Exception:  # a damaged zip makes NumPy raise just anything
        return None


def doubtful(index: Index, stats: np.ndarray) -> np.ndarray:
    """Rows whose file may have changed."""
    changed = (index.stats != stats).any(axis=1)
    racy = stats[:, 1] > int(index.checked) - RACY_NS
    return np.flatnonzero(changed | racy)


def write_index(path: Path, index: Index) -> None:
    with path.open("wb") as file:
        np.savez(file, **index._asdict())


def joined(files: Files) -> np.ndarray:
    return np.frombuffer(b"\0".join(map(os.fsencode, files.names)), dtype=np.uint8)


def index_of(files: Files, rows: Sequence[Row], *, stats: np.ndarray, now: int) -> Index:
    digests = np.frombuffer(b"".join(row.digest for row in rows), dtype=np.uint8)
    return Index(
        names=joined(files),
        stats=stats,
        digests=digests.reshape(-1, DIGEST_BYTES),
        remarks=np.array([row.remarks for row in rows], dtype=np.uint16),
        reasons=np.array([row.reason for row in rows], dtype=str),
        checked=np.array(now, dtype=np.int64),
    )
