"""Fill a new cache entry: all at once, or in the background while its first rows are in use.

Threads decode, not processes: Pillow, the file system and the digest release the interpreter lock
for most of the work, and threads need no start-up, no pickling and no import guard in the user's
script.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import BackgroundDecoding, DecodedRow
from thalweg.data.images.cache_index import (
    DIGEST_BYTES,
    RACY_NS,
    Index,
    index_of,
    write_index,
)
from thalweg.data.images.decode import REMARKS, decode, is_grey, with_channels
from thalweg.data.images.file_survey import (
    FileCheck,
    Survey,
    can_decode_in_background,
    check_file,
    check_files,
    digest_of,
)
from thalweg.data.images.formats import read_file
from thalweg.data.images.image_size import sample_images, training_size
from thalweg.data.samples import Files
from thalweg.data.threads import in_threads, num_threads
from thalweg.errors import DataError

Progress = Callable[[int, int], None]


class _ColourError(Exception):
    """A data set that looked grey has a coloured image."""


@dataclass(frozen=True, slots=True)
class StaleEntry:
    """A stale entry, whose unchanged rows are copied instead of decoded again."""

    path: Path
    pixels: np.ndarray  # uint8 [n, size, size, channels]
    rows: Mapping[bytes, int]  # digest of the contents → row, of decoded files
    remarks: np.ndarray  # uint16 [n]
    stats: Mapping[bytes, tuple[int, int, bytes]]  # file name → bytes, mtime, digest

    @classmethod
    def of(
        cls, path: Path, index: Index, pixels: np.ndarray, *, damaged: np.ndarray
    ) -> "StaleEntry":
        """The rows of an entry that are whole."""
        digests = [digest.tobytes() for digest in index.digests]
        good = index.reasons == ""
        good[damaged] = False
        names = index.names.tobytes().split(b"\0")
        settled = index.stats[:, 1] <= int(index.checked) - RACY_NS
        triples = zip(index.stats[:, 0].tolist(), index.stats[:, 1].tolist(), digests, strict=True)
        stats = {
            name: triple
            for name, triple, is_settled in zip(names, triples, settled, strict=True)
            if is_settled and triple[0] >= 0
        }
        rows = {digest: row for row, digest in enumerate(digests) if good[row]}
        return cls(path, pixels, rows, index.remarks, stats)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheJob:
    """A cache entry to fill."""

    files: Files
    stem: Path  # folder and key of the entry
    size: int  # pixels
    channels: int
    original_size: tuple[int, int]
    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    now: int  # time of the stats, ns since 1970
    stale: StaleEntry | None
    checks: Sequence[FileCheck] = ()  # of each file, if made before

    @classmethod
    def of(
        cls, survey: Survey, stem: Path, *, files: Files, size: int, stale: StaleEntry | None
    ) -> "CacheJob":
        """A job at `size`, or at a size chosen from the images (0)."""
        images = survey.images or sample_images(files)
        return cls(
            files=files,
            stem=stem,
            size=size or training_size(images.original_size)[0],
            channels=images.channels,
            original_size=images.original_size,
            stats=survey.stats,
            now=survey.now,
            stale=stale,
            checks=survey.checks,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one row."""
        return self.size, self.size, self.channels

    @property
    def num_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape)

    def decode_into(self, descriptor: int) -> Callable[[int], DecodedRow]:
        """A function that fills a row of the open file, from the stale entry or by decoding."""

        def fill(row: int) -> DecodedRow:
            outcome, pixels = self._copied(row)
            if pixels is None:
                path = self.files.root / self.files.names[row]
                outcome, pixels = _decode_file(path, self.size, self.channels)
            if pixels is None:
                return outcome
            data = pixels.tobytes()
            os.pwrite(descriptor, data, row * self.num_bytes)
            return outcome._replace(checksum=crc32(data))

        return fill

    def _copied(self, row: int) -> tuple[DecodedRow, np.ndarray | None]:
        stale = self.stale
        if stale is None or stale.pixels.shape[1:] != self.shape:
            return DecodedRow(b""), None
        digest = self.digest(row)
        source = stale.rows.get(digest)
        if source is None:
            return DecodedRow(b""), None
        return DecodedRow(digest, remarks=int(stale.remarks[source])), stale.pixels[source]

    def digest(self, row: int) -> bytes:
        """Digest of a file's contents; not read if the stale entry has it with the same stats."""
        name = self.files.names[row]
        stored = self.stale.stats.get(os.fsencode(name)) if self.stale else None
        if stored is not None and stored[:2] == tuple(self.stats[row].tolist()):
            return stored[2]
        return digest_of(self.files.root / name)


class BackgroundEntry(NamedTuple):
    """An entry that threads are filling."""

    path: Path
    decoding: BackgroundDecoding
    digests: Sequence[bytes]
    reasons: Mapping[int, str]  # row → reason, of damaged files


def fill_entry(job: CacheJob, progress: Progress | None) -> None:
    """Decode all files and commit the entry. Raises DataError if the cache cannot be written."""
    with cache.entry_folder(job.stem.parent) as path:
        try:
            try:
                rows = _decode_all(job, path, progress)
            except _ColourError:
                job = replace(job, channels=3)
                rows = _decode_all(job, path, progress)
            _commit(job, path, rows)
        except OSError as error:
            raise cache.cache_error(job.stem.parent, error) from error


def fill_in_background(job: CacheJob) -> BackgroundEntry | None:
    """Start to decode; None for a set that is small, may prove coloured, or exceeds memory."""
    count = len(job.files)
    if not can_decode_in_background(job.stats, job.channels):
        return None
    checks = job.checks or check_files(count, lambda row: _check(job, row))
    digests = [check.digest for check in checks]
    suspicious = np.flatnonzero([not check.is_whole for check in checks])
    with ExitStack() as stack:
        path = stack.enter_context(cache.entry_folder(job.stem.parent))
        try:
            file = stack.enter_context((path / cache.PIXELS).open("wb"))
            os.posix_fallocate(file.fileno(), 0, count * job.num_bytes)
        except OSError as error:
            raise cache.cache_error(job.stem.parent, error) from error
        resources = stack.pop_all()

    def commit(rows: Sequence[DecodedRow]) -> None:
        with resources, suppress(OSError):  # without an entry, the next training decodes again
            _commit(job, path, rows)

    decode_row = job.decode_into(file.fileno())
    decoding = BackgroundDecoding(count, decode_row, commit=commit, threads=num_threads())
    return BackgroundEntry(path, decoding, digests, decoding.seal(suspicious, digests))


def _check(job: CacheJob, row: int) -> FileCheck:
    """Check a file as `check_file` does, without reading one that the stale entry has."""
    if job.stale is not None and (digest := job.digest(row)) in job.stale.rows:
        return FileCheck(digest, True)
    return check_file(job.files.root / job.files.names[row])


def _decode_all(job: CacheJob, path: Path, progress: Progress | None) -> list[DecodedRow]:
    count = len(job.files)
    with (path / cache.PIXELS).open("wb") as file:
        # Reserve all space now: a full disk raises here, not as a bus error in a memory map later.
        os.posix_fallocate(file.fileno(), 0, max(1, count * job.num_bytes))
        rows = []
        with closing(in_threads(job.decode_into(file.fileno()), range(count))) as results:
            for row in results:
                rows.append(row)
                if progress is not None and len(rows) % 16 == 0:
                    progress(len(rows), count)
    if progress is not None:
        progress(count, count)
    return rows


def _commit(job: CacheJob, path: Path, rows: Sequence[DecodedRow]) -> None:
    index = index_of(job.files, rows, stats=job.stats, now=job.now)
    write_index(path / cache.INDEX, index)
    contents = blake2b(index.digests.tobytes() + index.names.tobytes(), digest_size=8)
    final = job.stem.with_name(f"{job.stem.name}-{contents.hexdigest()}")
    manifest = {
        "size": job.size,
        "channels": job.channels,
        "original_size": job.original_size,
        "source": str(job.files.origin.absolute()),
        "images": len(job.files),
        "num_bytes": (path / cache.PIXELS).stat().st_size,
    }
    if job.stale is not None:
        cache.remove(job.stale.path)
    cache.commit(path, final, manifest)
    cache.evict(job.stem.parent, keep=final)


def _decode_file(path: Path, size: int, channels: int) -> tuple[DecodedRow, np.ndarray | None]:
    try:
        data = read_file(path)
    except DataError as error:
        return DecodedRow(digest_of(path), reason=error.problem), None
    digest = blake2b(data, digest_size=DIGEST_BYTES).digest()
    try:
        image = decode(data, size=size)
    except DataError as error:
        return DecodedRow(digest, reason=error.problem), None
    if channels == 1 and not is_grey(image.pixels):
        raise _ColourError
    bits = sum(1 << REMARKS.index(remark) for remark in image.remarks)
    return DecodedRow(digest, remarks=bits), with_channels(image.pixels, channels)
