"""Load image files as a memory-mapped array of pixels, from the cache or decoded into it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import BackgroundDecoding, DecodedRow
from thalweg.data.images.cache_index import (
    Index,
    damaged_rows,
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
from thalweg.data.images.memory_map import memory_map
from thalweg.data.samples import Files
from thalweg.data.threads import in_threads
from thalweg.errors import DataError
from thalweg.files import draft_of

ATTEMPTS = 3  # to load the new entry: another process may clear the cache meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Decoded images, one a row. Rows in `reasons` could not be decoded: ignore their pixels."""

    array: np.ndarray  # uint8 [n, size, size, channels], memory-mapped
    digests: np.ndarray  # uint8 [n, 16], of the files' contents
    reasons: Mapping[int, str]
    remarks: Mapping[str, Sequence[int]]  # remark → rows
    original_size: tuple[int, int]  # median (height, width), pixels
    notes: tuple[str, ...] = ()  # about the cache
    decoding: BackgroundDecoding | None = None  # filling the other rows


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the cache whose parts fit each other."""

    path: Path
    manifest: Mapping[str, Any]
    index: Index
    array: np.ndarray


def load_pixels(
    files: Files,
    *,
    size: int = 0,
    progress: Progress | None = None,
    overlap_below: float = 0,
    survey: Survey | None = None,
) -> Pixels:
    """Load the images at `size` px, or at a size chosen from the images (0), through the cache.

    Images of fewer than `overlap_below` px may still be decoding: see `decoding`, and its
    `DamagedLateError`. `survey` is a survey of the files made before.
    Raises DataError if the cache cannot be written.
    """
    folder, note = cache.writable_cache_dir()
    notes = [note] if note else []
    key = key_of(files, size)
    for attempt in range(ATTEMPTS):
        current = survey if survey is not None and attempt == 0 else survey_of(files)
        stale: StaleEntry | None = None
        for path in cache.entries_for(folder, key):
            if (entry := _open_entry(path)) is not None:
                damaged = damaged_rows(entry.index, entry.array)
                notes += _damage_notes(damaged)
                if not len(damaged) and (
                    pixels := _load(entry, files, current=current, notes=notes)
                ):
                    cache.touch(path)
                    return pixels
                stale = stale or StaleEntry.of(path, entry.index, entry.array, damaged=damaged)
            if stale is None or stale.path != path:
                cache.remove(path)
        job = CacheJob.of(current, folder / key, files=files, size=size, stale=stale)
        if job.size < overlap_below and (pixels := _decoding_pixels(job, notes)) is not None:
            return pixels
        fill_entry(job, progress)
    raise DataError(
        "the cache's new entry vanished before it could be read",
        seen=str(folder),
        fix="set THALWEG_CACHE to a folder that nothing else clears",
    )


def _decoding_pixels(job: CacheJob, notes: Sequence[str]) -> Pixels | None:
    """Pixels that threads are decoding; None if they should be decoded first."""
    entry = fill_in_background(job)
    if entry is None:
        return None
    digests = np.frombuffer(b"".join(entry.digests), dtype=np.uint8)
    return Pixels(
        array=memory_map(entry.path / cache.PIXELS, (len(job.files), *job.shape)),
        digests=digests.reshape(len(job.files), -1),
        reasons=entry.reasons,
        remarks={},
        original_size=job.original_size,
        notes=tuple(notes),
        decoding=entry.decoding,
    )


def _damage_notes(damaged: np.ndarray) -> list[str]:
    """A note on rows that the disk has damaged."""
    if not len(damaged):
        return []
    return [f"{len(damaged):,} cached images were damaged on the disk: decoded anew"]


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


def _open_entry(path: Path) -> _Entry | None:
    """The entry; None if it is gone, or damaged in more than its pixels."""
    manifest, index = cache.read_manifest(path), read_index(path)
    if manifest is None or index is None:
        return None
    count, size, channels = manifest["images"], manifest["size"], manifest["channels"]
    try:
        array = memory_map(path / cache.PIXELS, (count, size, size, channels))
    except (OSError, ValueError):
        return None
    return _Entry(path, manifest, index, array) if len(index.reasons) == count else None


def _load(entry: _Entry, files: Files, *, current: Survey, notes: Sequence[str]) -> Pixels | None:
    """An entry's pixels; None if the files have changed."""
    manifest, index = entry.manifest, entry.index
    if not _is_current(index, files, current.stats):
        return None
    _update_stats(entry.path, index, stats=current.stats, now=current.now)
    return Pixels(
        array=entry.array,
        digests=index.digests,
        reasons={int(row): str(index.reasons[row]) for row in np.flatnonzero(index.reasons != "")},
        remarks=_remarks(index.remarks),
        original_size=(manifest["original_size"][0], manifest["original_size"][1]),
        notes=tuple(notes),
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
    with suppress(OSError), draft_of(path / cache.INDEX) as fresh:  # costs only time
        write_index(fresh, index._replace(stats=stats, checked=np.array(now)))
