"""Image files → a memory-mapped array of their pixels: from the cache, or decoded into it."""

import mmap
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import Decoding, Row
from thalweg.data.images.cache_index import Index, doubtful, joined, read_index, write_index
from thalweg.data.images.cache_writer import Donor, Job, Progress, filled, filling
from thalweg.data.images.decode import REMARKS
from thalweg.data.images.file_survey import Survey, digest_of, key_of, survey_of
from thalweg.data.samples import Files
from thalweg.data.threads import in_threads
from thalweg.errors import DataError

ATTEMPTS = 3  # to find what was just built: another process may clear the cache meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Decoded images, one a row. Rows in `reasons` could not be decoded and mean nothing."""

    array: np.ndarray  # uint8 [n, size, size, channels], memory-mapped
    digests: np.ndarray  # uint8 [n, 16], of the files' contents
    reasons: Mapping[int, str]
    remarks: Mapping[str, Sequence[int]]  # remark → the rows it is about
    original_size: tuple[int, int]  # median (height, width), pixels
    note: str  # where the cache is, if not where it should be
    decoding: Decoding | None = None  # at work on rows that are not filled yet


def pixels_of(
    files: Files,
    *,
    size: int = 0,
    progress: Progress | None = None,
    overlap: bool = False,
    survey: Survey | None = None,
) -> Pixels:
    """The images of `files` at `size` px, or at a size chosen from them (0), through the cache.

    With `overlap` they may still be being decoded: see `decoding`, and its `FoundLateError`.
    `survey` is what is known of them already.
    Raises DataError when the cache cannot be written.
    """
    folder, note = cache.writable_cache_dir()
    key = key_of(files, size)
    for attempt in range(ATTEMPTS):
        known = survey if survey is not None and attempt == 0 else survey_of(files)
        donor: Donor | None = None
        for path in cache.entries_for(folder, key):
            found = _load(path, files, stats=known.stats, now=known.now, note=note)
            if found is not None:
                cache.touch(path)
                return found
            donor = donor or _donor(path)
            if donor is None or donor.path != path:
                cache.remove(path)  # stale or damaged
        job = Job.of(known, folder / key, files=files, size=size, donor=donor)
        if overlap and (begun := _begun(job, note)) is not None:
            return begun
        filled(job, progress)
    raise DataError(
        "the cache's new entry vanished before it could be read",
        seen=str(folder),
        fix="set THALWEG_CACHE to a folder that nothing else clears",
    )


def _begun(job: Job, note: str) -> Pixels | None:
    """Pixels that are being decoded; None where they had better be decoded first."""
    begun = filling(job)
    if begun is None:
        return None
    digests = np.frombuffer(b"".join(begun.digests), dtype=np.uint8)
    return Pixels(
        array=_mapped(begun.path, len(job.files), size=job.size, channels=job.channels),
        digests=digests.reshape(len(job.files), -1),
        reasons=begun.reasons,
        remarks={},
        original_size=job.original_size,
        note=note,
        decoding=begun.decoding,
    )


def remarks_of(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Remark → the rows that it is about."""
    return _remarks(np.array([row.remarks for row in rows], dtype=np.uint16))


def _remarks(bits: np.ndarray) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(bits):
        for bit, remark in enumerate(REMARKS):
            if bits[row] >> bit & 1:
                found[remark].append(int(row))
    return found


def _mapped(path: Path, count: int, *, size: int, channels: int) -> np.ndarray:
    """Copy on write: torch wants memory that it may write to, and the disk is not changed."""
    shape = (count, size, size, channels)
    return np.memmap(path / cache.PIXELS, dtype=np.uint8, mode="c", shape=shape)


def _donor(path: Path) -> Donor | None:
    """The entry, to take from it what has not changed; None where it is damaged."""
    manifest, index = cache.read_manifest(path), read_index(path)
    if manifest is None or index is None:
        return None
    count, size, channels = manifest["images"], manifest["size"], manifest["channels"]
    try:
        return Donor.of(path, index, _mapped(path, count, size=size, channels=channels))
    except (OSError, ValueError):
        return None


def _load(path: Path, files: Files, *, stats: np.ndarray, now: int, note: str) -> Pixels | None:
    """An entry's pixels; None when it is damaged, gone, or not of these files as they are now."""
    manifest, index = cache.read_manifest(path), read_index(path)
    if manifest is None or index is None or not _is_current(index, files, stats):
        return None
    try:
        array = _mapped(path, len(files), size=manifest["size"], channels=manifest["channels"])
    except (OSError, ValueError):
        return None
    _remember(path, index, stats=stats, now=now)
    return Pixels(
        array=array,
        digests=index.digests,
        reasons={int(row): str(index.reasons[row]) for row in np.flatnonzero(index.reasons != "")},
        remarks=_remarks(index.remarks),
        original_size=(manifest["original_size"][0], manifest["original_size"][1]),
        note=note,
    )


def _is_current(index: Index, files: Files, stats: np.ndarray) -> bool:
    """Whether the files are those that were decoded: by size and mtime, or else by contents."""
    if not np.array_equal(index.names, joined(files)):
        return False
    rows = doubtful(index, stats)
    digests = in_threads(lambda row: digest_of(files.root / files.names[row]), rows)
    return all(
        digest == index.digests[row].tobytes() for row, digest in zip(rows, digests, strict=True)
    )


def _remember(path: Path, index: Index, *, stats: np.ndarray, now: int) -> None:
    """Note that the files, as they now stand, are those of the entry: the next look is quick."""
    if not len(doubtful(index, stats)):
        return
    fresh = path / f"{cache.INDEX}.{os.getpid()}"
    try:
        write_index(fresh, index._replace(stats=stats, checked=np.array(now)))
        fresh.replace(path / cache.INDEX)
    except OSError:
        fresh.unlink(missing_ok=True)  # only time is lost


def release(array: np.ndarray) -> None:
    """Give back the resident pages of a memory-mapped array; they are read again when needed.

    Without it a pass over the data leaves every page of it counted as this process's memory.
    """
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None) if not isinstance(base, memoryview) else base.obj
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
