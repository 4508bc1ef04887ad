"""Load image files as a memory-mapped array of pixels, from the cache or decoded into it."""

import mmap
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import BackgroundDecoding, DecodedRow
from thalweg.data.images.cache_index import (
    Index,
    joined_names,
    possibly_changed,
    read_index,
    write_index,
)
from thalweg.data.images.cache_writer import (
    CacheJob,
    Progress,
    StaleEntry,
    fill_entry,
    fill_in_background,
)
from thalweg.data.images.decode import REMARKS
from thalweg.data.images.file_survey import Survey, digest_of, key_of, survey_of
from thalweg.data.samples import Files
from thalweg.data.threads import in_threads
from thalweg.errors import DataError

ATTEMPTS = 3  # to load the new entry: another process may clear the cache meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Decoded images, one a row. Rows in `reasons` could not be decoded: ignore their pixels."""

    array: np.ndarray  # uint8 [n, size, size, channels], memory-mapped
    digests: np.ndarray  # uint8 [n, 16], of the files' contents
    reasons: Mapping[int, str]
    remarks: Mapping[str, Sequence[int]]  # remark → rows
    original_size: tuple[int, int]  # median (height, width), pixels
    note: str  # about a cache in another place than usual
    decoding: BackgroundDecoding | None = None  # filling the other rows


def load_pixels(
    files: Files,
    *,
    size: int = 0,
    progress: Progress | None = None,
    overlap: bool = False,
    survey: Survey | None = None,
) -> Pixels:
    """Load the images at `size` px, or at a size chosen from the images (0), through the cache.

    With `overlap` they may still be decoding: see `decoding`, and its `DamagedLateError`. `survey`
    is a survey of the files made before.
    Raises DataError if the cache cannot be written.
    """
    folder, note = cache.writable_cache_dir()
    key = key_of(files, size)
    for attempt in range(ATTEMPTS):
        current = survey if survey is not None and attempt == 0 else survey_of(files)
        stale: StaleEntry | None = None
        for path in cache.entries_for(folder, key):
            pixels = _load(path, files, stats=current.stats, now=current.now, note=note)
            if pixels is not None:
                cache.touch(path)
                return pixels
            stale = stale or _stale_entry(path)
            if stale is None or stale.path != path:
                cache.remove(path)  # stale or damaged
        job = CacheJob.of(current, folder / key, files=files, size=size, stale=stale)
        if overlap and (pixels := _decoding_pixels(job, note)) is not None:
            return pixels
        fill_entry(job, progress)
    raise DataError(
        "the cache's new entry vanished before it could be read",
        seen=str(folder),
        fix="set THALWEG_CACHE to a folder that nothing else clears",
    )


def _decoding_pixels(job: CacheJob, note: str) -> Pixels | None:
    """Pixels that threads are decoding; None if they should be decoded first."""
    entry = fill_in_background(job)
    if entry is None:
        return None
    digests = np.frombuffer(b"".join(entry.digests), dtype=np.uint8)
    return Pixels(
        array=_memory_map(entry.path, len(job.files), size=job.size, channels=job.channels),
        digests=digests.reshape(len(job.files), -1),
        reasons=entry.reasons,
        remarks={},
        original_size=job.original_size,
        note=note,
        decoding=entry.decoding,
    )


def remarks_of(rows: Sequence[DecodedRow]) -> dict[str, list[int]]:
    """Map each remark to its rows."""
    return _remarks(np.array([row.remarks for row in rows], dtype=np.uint16))


def _remarks(bits: np.ndarray) -> dict[str, list[int]]:
    rows_by_remark: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(bits):
        for bit, remark in enumerate(REMARKS):
            if bits[row] >> bit & 1:
                rows_by_remark[remark].append(int(row))
    return rows_by_remark


def _memory_map(path: Path, count: int, *, size: int, channels: int) -> np.ndarray:
    """Map the pixels copy-on-write: torch needs writable memory, and the disk must not change."""
    shape = (count, size, size, channels)
    return np.memmap(path / cache.PIXELS, dtype=np.uint8, mode="c", shape=shape)


def _stale_entry(path: Path) -> StaleEntry | None:
    """The entry, to copy unchanged rows from; None if it is damaged."""
    manifest, index = cache.read_manifest(path), read_index(path)
    if manifest is None or index is None:
        return None
    count, size, channels = manifest["images"], manifest["size"], manifest["channels"]
    try:
        return StaleEntry.of(path, index, _memory_map(path, count, size=size, channels=channels))
    except (OSError, ValueError):
        return None


def _load(path: Path, files: Files, *, stats: np.ndarray, now: int, note: str) -> Pixels | None:
    """An entry's pixels; None if it is damaged, gone, or the files have changed."""
    manifest, index = cache.read_manifest(path), read_index(path)
    if manifest is None or index is None or not _is_current(index, files, stats):
        return None
    try:
        array = _memory_map(path, len(files), size=manifest["size"], channels=manifest["channels"])
    except (OSError, ValueError):
        return None
    _update_stats(path, index, stats=stats, now=now)
    return Pixels(
        array=array,
        digests=index.digests,
        reasons={int(row): str(index.reasons[row]) for row in np.flatnonzero(index.reasons != "")},
        remarks=_remarks(index.remarks),
        original_size=(manifest["original_size"][0], manifest["original_size"][1]),
        note=note,
    )


def _is_current(index: Index, files: Files, stats: np.ndarray) -> bool:
    """Return whether the files are those decoded: by size and mtime, or else by contents."""
    if not np.array_equal(index.names, joined_names(files)):
        return False
    rows = possibly_changed(index, stats)
    digests = in_threads(lambda row: digest_of(files.root / files.names[row]), rows)
    return all(
        digest == index.digests[row].tobytes() for row, digest in zip(rows, digests, strict=True)
    )


def _update_stats(path: Path, index: Index, *, stats: np.ndarray, now: int) -> None:
    """Store the present stats of unchanged files, so that the next check need not read them."""
    if not len(possibly_changed(index, stats)):
        return
    fresh = path / f"{cache.INDEX}.{os.getpid()}"
    try:
        write_index(fresh, index._replace(stats=stats, checked=np.array(now)))
        fresh.replace(path / cache.INDEX)
    except OSError:
        fresh.unlink(missing_ok=True)  # costs only time


def release(array: np.ndarray) -> None:
    """Release the resident pages of a memory-mapped array; they are read again on demand.

    Without it every page of the data counts as memory of this process after a pass over them.
    """
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None) if not isinstance(base, memoryview) else base.obj
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
