"""The index of a cache entry: the file of each row, and a checksum of its pixels.

They tell which files have changed since, and which pixels the disk has damaged.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import DecodedRow
from thalweg.data.images.memory_map import release
from thalweg.data.samples import Files
from thalweg.data.threads import in_threads

DIGEST_BYTES = 16
CHECKED_AT_ONCE = 8 << 20  # bytes, after which their pages are released
BYTES_PER_TASK = 1 << 20
RACY_NS = 2_000_000_000  # a file that changed this shortly before its stat may change unseen


class Index(NamedTuple):
    """Names, stats and digests of the files that an entry was decoded from."""

    names: np.ndarray  # file names as bytes, joined by NUL
    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    digests: np.ndarray  # uint8 [n, 16]
    remarks: np.ndarray  # uint16 [n], one bit for each of REMARKS
    reasons: np.ndarray  # str [n], "" if it was decoded
    checked: np.ndarray  # int64 []: time of the stats, ns since 1970
    checksums: np.ndarray  # uint32 [n], CRC-32 of each row's pixels


def read_index(path: Path) -> Index | None:
    try:
        with (path / cache.INDEX).open("rb") as file, np.load(file) as stored:
            return Index(*(stored[name] for name in Index._fields))
    except Exception:  # NumPy raises any kind of error for a damaged zip
        return None


def damaged_rows(index: Index, pixels: np.ndarray) -> np.ndarray:
    """Rows whose pixels are not those that were decoded: the disk has damaged them.

    Cost: 0.2 s of one processor a GB of photographs, 0.3 s of images of 32 px.
    """
    size = int(np.prod(pixels.shape[1:]))
    rows = np.flatnonzero(index.reasons == "")
    data = pixels.data.cast("B")
    checksums = np.zeros(len(pixels), dtype=np.uint32)
    per_pass = max(1, CHECKED_AT_ONCE // size)
    for start in range(0, len(rows), per_pass):
        part = rows[start : start + per_pass]
        checksums[part] = list(
            in_threads(
                lambda row: crc32(data[row * size : (row + 1) * size]),
                part,
                at_once=max(1, BYTES_PER_TASK // size),
            )
        )
        release(pixels)
    return rows[checksums[rows] != index.checksums[rows]]


def possibly_changed(index: Index, stats: np.ndarray) -> np.ndarray:
    """Rows whose file may have changed."""
    changed = (index.stats != stats).any(axis=1)
    racy = stats[:, 1] > int(index.checked) - RACY_NS
    return np.flatnonzero(changed | racy)


def write_index(path: Path, index: Index) -> None:
    with path.open("xb") as file:
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
        checksums=np.array([row.checksum for row in rows], dtype=np.uint32),
    )
