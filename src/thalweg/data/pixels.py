"""Image files → a memory-mapped array of their pixels: from the cache, or decoded into it.

Decoded by threads, not processes: Pillow, the file system and the digest release the interpreter
for the bulk of the work; threads need no start-up, no pickling and no import guard in the user's
script, and none can be left behind.
"""

import mmap
import os
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from thalweg.data import cache
from thalweg.data.decode import POLICY_VERSION, REMARKS, decode, is_grey, with_channels
from thalweg.data.formats import read_file
from thalweg.data.probe import probe, training_size
from thalweg.data.samples import Files
from thalweg.errors import DataError

Progress = Callable[[int, int], None]
Result = TypeVar("Result")
DIGEST_BYTES = 16
ROWS_PER_TASK = 8
TASKS_AHEAD = 64  # submitted at once, so that what waits in the queue stays small
ATTEMPTS = 3  # to find what was just built: another process may clear the cache meanwhile
RACY_NS = 2_000_000_000  # a file changed this shortly before it was read may change again unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Decoded images, one a row. Rows in `reasons` could not be decoded and mean nothing."""

    array: np.ndarray  # uint8 [n, size, size, channels], memory-mapped
    digests: np.ndarray  # uint8 [n, 16], of the files' contents
    reasons: Mapping[int, str]
    remarks: Mapping[str, Sequence[int]]  # remark → the rows it is about
    original_size: tuple[int, int]  # median (height, width), pixels
    note: str  # where the cache is, if not where it should be


class _Index(NamedTuple):
    """What an entry's rows were decoded from."""

    names: np.ndarray  # the files' names, joined by NUL, as bytes
    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    digests: np.ndarray  # uint8 [n, 16]
    remarks: np.ndarray  # uint16 [n], one bit for each of REMARKS
    reasons: np.ndarray  # str [n], "" where it was decoded
    checked: np.ndarray  # int64 []: when the stats were taken, ns since 1970


class _Row(NamedTuple):
    digest: bytes
    remarks: int = 0
    reason: str = ""


class _ColourFoundError(Exception):
    """A set that looked grey is not."""


def pixels_of(files: Files, *, size: int = 0, progress: Progress | None = None) -> Pixels:
    """The images of `files` at `size` px, or at a size chosen from them (0), through the cache.

    Raises DataError when the cache cannot be written.
    """
    folder, note = cache.writable_cache_dir()
    key = blake2b(
        os.fsencode(f"{files.origin.resolve()}\0{size}\0{POLICY_VERSION}"), digest_size=12
    ).hexdigest()
    for _ in range(ATTEMPTS):
        stats, now = _stats(files), time.time_ns()
        for path in cache.entries_for(folder, key):
            found = _load(path, files, stats=stats, now=now, note=note)
            if found is not None:
                cache.touch(path)
                return found
            cache.remove(path)  # stale or damaged
        made = _decoded(files, folder / key, size=size, stats=stats, now=now, progress=progress)
        cache.evict(folder, keep=made)
    raise DataError(
        "the cache's new entry vanished before it could be read",
        seen=str(folder),
        fix="set THALWEG_CACHE to a folder that nothing else clears",
    )


def _stats(files: Files) -> np.ndarray:
    """Bytes and mtime of every file, int64 [n, 2]; −1 for one that is gone."""
    stats = np.full((len(files), 2), -1, dtype=np.int64)
    for row, name in enumerate(files.names):
        try:
            status = os.stat(files.root / name)  # noqa: PTH116 (half the time of Path.stat)
        except OSError:
            continue
        stats[row] = status.st_size, status.st_mtime_ns
    return stats


def _load(path: Path, files: Files, *, stats: np.ndarray, now: int, note: str) -> Pixels | None:
    """An entry's pixels; None when it is damaged, gone, or not of these files as they are now."""
    manifest, index = cache.read_manifest(path), _read_index(path)
    if manifest is None or index is None or not _is_current(index, files, stats):
        return None
    shape = (len(files), manifest["size"], manifest["size"], manifest["channels"])
    try:
        # Copy on write: torch wants memory that it may write to, and the disk is not changed.
        array = np.memmap(path / cache.PIXELS, dtype=np.uint8, mode="c", shape=shape)
    except (OSError, ValueError):
        return None
    _remember(path, index, stats=stats, now=now)
    remarks: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(index.remarks):
        for bit, remark in enumerate(REMARKS):
            if index.remarks[row] >> bit & 1:
                remarks[remark].append(int(row))
    return Pixels(
        array=array,
        digests=index.digests,
        reasons={int(row): str(index.reasons[row]) for row in np.flatnonzero(index.reasons != "")},
        remarks=remarks,
        original_size=(manifest["original_size"][0], manifest["original_size"][1]),
        note=note,
    )


def _read_index(path: Path) -> _Index | None:
    try:
        with (path / cache.INDEX).open("rb") as file, np.load(file) as stored:
            return _Index(*(stored[name] for name in _Index._fields))
    except Exception:  # a damaged zip makes NumPy raise just anything
        return None


def _is_current(index: _Index, files: Files, stats: np.ndarray) -> bool:
    """Whether the files are those that were decoded: by size and mtime, or else by contents."""
    if not np.array_equal(index.names, _joined(files)):
        return False
    rows = _doubtful(index, stats)
    digests = _in_threads(lambda row: _digest(files.root / files.names[row]), rows)
    return all(
        digest == index.digests[row].tobytes() for row, digest in zip(rows, digests, strict=True)
    )


def _doubtful(index: _Index, stats: np.ndarray) -> np.ndarray:
    """Rows whose file may have changed."""
    changed = (index.stats != stats).any(axis=1)
    racy = stats[:, 1] > int(index.checked) - RACY_NS
    return np.flatnonzero(changed | racy)


def _remember(path: Path, index: _Index, *, stats: np.ndarray, now: int) -> None:
    """Note that the files, as they now stand, are those of the entry: the next look is quick."""
    if not len(_doubtful(index, stats)):
        return
    fresh = path / f"{cache.INDEX}.{os.getpid()}"
    try:
        _write_index(fresh, index._replace(stats=stats, checked=np.array(now)))
        fresh.replace(path / cache.INDEX)
    except OSError:
        fresh.unlink(missing_ok=True)  # only time is lost


def _write_index(path: Path, index: _Index) -> None:
    with path.open("wb") as file:
        np.savez(file, **index._asdict())


def _joined(files: Files) -> np.ndarray:
    return np.frombuffer(b"\0".join(map(os.fsencode, files.names)), dtype=np.uint8)


def _digest(path: Path) -> bytes:
    try:
        return blake2b(read_file(path), digest_size=DIGEST_BYTES).digest()
    except DataError as error:
        return blake2b(error.problem.encode(), digest_size=DIGEST_BYTES).digest()


def _in_threads(
    work: Callable[[int], Result], rows: Sequence[int] | np.ndarray
) -> Generator[Result]:
    """`work` of each row, in order, by as many threads as there are processors."""

    def task(start: int) -> list[Result]:
        return [work(int(row)) for row in rows[start : start + ROWS_PER_TASK]]

    ahead = ROWS_PER_TASK * TASKS_AHEAD
    with ThreadPoolExecutor(max_workers=min(32, len(os.sched_getaffinity(0)))) as pool:
        for first in range(0, len(rows), ahead):
            starts = range(first, min(first + ahead, len(rows)), ROWS_PER_TASK)
            for results in pool.map(task, starts):
                yield from results


def _decoded(
    files: Files,
    stem: Path,
    *,
    size: int,
    stats: np.ndarray,
    now: int,
    progress: Progress | None,
) -> Path:
    """The path of a new entry with the files decoded at `size`, or a size chosen from them."""
    seen = probe(files)
    job: dict[str, Any] = {
        "size": size or training_size(seen.original_size)[0],
        "channels": seen.channels,
        "original_size": seen.original_size,
        "source": str(files.origin.absolute()),
        "images": len(files),
    }
    with cache.building(stem.parent) as path:
        try:
            try:
                rows = _decode_all(files, path, job=job, progress=progress)
            except _ColourFoundError:
                job["channels"] = 3
                rows = _decode_all(files, path, job=job, progress=progress)
            index = _index_of(files, rows, stats=stats, now=now)
            _write_index(path / cache.INDEX, index)
            job["num_bytes"] = (path / cache.PIXELS).stat().st_size
            contents = blake2b(index.digests.tobytes() + index.names.tobytes(), digest_size=8)
            final = stem.with_name(f"{stem.name}-{contents.hexdigest()}")
            cache.commit(path, final, job)
        except OSError as error:
            raise cache.no_room(stem.parent, error) from error
    return final


def _decode_all(
    files: Files, path: Path, *, job: Mapping[str, Any], progress: Progress | None
) -> list[_Row]:
    size, channels = job["size"], job["channels"]
    num_bytes = size * size * channels
    with (path / cache.PIXELS).open("wb") as file:
        descriptor = file.fileno()
        # Reserved at once: a full disk is an error here and not a bus error in a memory map later.
        os.posix_fallocate(descriptor, 0, max(1, len(files) * num_bytes))

        def work(row: int) -> _Row:
            found, pixels = _decode_file(files.root / files.names[row], size, channels)
            if pixels is not None:
                os.pwrite(descriptor, pixels.tobytes(), row * num_bytes)
            return found

        rows = []
        with closing(_in_threads(work, range(len(files)))) as results:
            for row in results:
                rows.append(row)
                if progress is not None and len(rows) % 16 == 0:
                    progress(len(rows), len(files))
    if progress is not None:
        progress(len(files), len(files))
    return rows


def _decode_file(path: Path, size: int, channels: int) -> tuple[_Row, np.ndarray | None]:
    try:
        data = read_file(path)
    except DataError as error:
        return _Row(_digest(path), reason=error.problem), None
    digest = blake2b(data, digest_size=DIGEST_BYTES).digest()
    try:
        found = decode(data, size=size)
    except DataError as error:
        return _Row(digest, reason=error.problem), None
    if channels == 1 and not is_grey(found.pixels):
        raise _ColourFoundError
    bits = sum(1 << REMARKS.index(remark) for remark in found.remarks)
    return _Row(digest, remarks=bits), with_channels(found.pixels, channels)


def _index_of(files: Files, rows: Sequence[_Row], *, stats: np.ndarray, now: int) -> _Index:
    digests = np.frombuffer(b"".join(row.digest for row in rows), dtype=np.uint8)
    return _Index(
        names=_joined(files),
        stats=stats,
        digests=digests.reshape(-1, DIGEST_BYTES),
        remarks=np.array([row.remarks for row in rows], dtype=np.uint16),
        reasons=np.array([row.reason for row in rows], dtype=str),
        checked=np.array(now, dtype=np.int64),
    )


def release(array: np.ndarray) -> None:
    """Give back the resident pages of a memory-mapped array; they are read again when needed.

    Without it a pass over the data leaves every page of it counted as this process's memory.
    """
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None) if not isinstance(base, memoryview) else base.obj
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
