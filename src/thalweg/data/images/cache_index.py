"""The index of a cache entry: the file of each row, to see which files changed since."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import DecodedRow
from thalweg.data.samples import Files

DIGEST_BYTES = 16
RACY_NS = 2_000_000_000  # a file that changed this shortly before its stat may change unseen


class Index(NamedTuple):
    """Names, stats and digests of the files that an entry was decoded from."""

    names: np.ndarray  # file names as bytes, joined by NUL
    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    digests: np.ndarray  # uint8 [n, 16]
    remarks: np.ndarray  # uint16 [n], one bit for each of REMARKS
    reasons: np.ndarray  # str [n], "" if it was decoded
    checked: np.ndarray  # int64 []: time of the stats, ns since 1970


def read_index(path: Path) -> Index | None:
    try:
        with (path / cache.INDEX).open("rb") as file, np.load(file) as stored:
            return Index(*(stored[name] for name in Index._fields))
    except Exception:  # NumPy raises any kind of error for a damaged zip
        return None


def possibly_changed(index: Index, stats: np.ndarray) -> np.ndarray:
    """Rows whose file may have changed."""
    changed = (index.stats != stats).any(axis=1)
    racy = stats[:, 1] > int(index.checked) - RACY_NS
    return np.flatnonzero(changed | racy)


def write_index(path: Path, index: Index) -> None:
    with path.open("wb") as file:
        np.savez(file, **index._asdict())


def joined_names(files: Files) -> np.ndarray:
    return np.frombuffer(b"\0".join(map(os.fsencode, files.names)), dtype=np.uint8)


def index_of(files: Files, rows: Sequence[DecodedRow], *, stats: np.ndarray, now: int) -> Index:
    digests = np.frombuffer(b"".join(row.digest for row in rows), dtype=np.uint8)
    return Index(
        names=joined_names(files),
        stats=stats,
        digests=digests.reshape(-1, DIGEST_BYTES),
        remarks=np.array([row.remarks for row in rows], dtype=np.uint16),
        reasons=np.array([row.reason for row in rows], dtype=str),
        checked=np.array(now, dtype=np.int64),
    )
