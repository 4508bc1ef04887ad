"""A new cache entry, filled: all at once, or by threads while its first rows are already used.

Decoded by threads, not processes: Pillow, the file system and the digest release the interpreter
for the bulk of the work; threads need no start-up, no pickling and no import guard in the user's
script.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.background_decoding import Decoding, Row
from thalweg.data.images.cache_index import (
    DIGEST_BYTES,
    RACY_NS,
    Index,
    index_of,
    write_index,
)
from thalweg.data.images.decode import REMARKS, decode, is_grey, with_channels
from thalweg.data.images.file_survey import (
    Look,
    Survey,
    digest_of,
    is_worth_looks,
    look_at,
    looks_at,
)
from thalweg.data.images.formats import read_file
from thalweg.data.images.image_size import probe, training_size
from thalweg.data.samples import Files
from thalweg.data.threads import in_threads, num_threads
from thalweg.errors import DataError

Progress = Callable[[int, int], None]


class _ColourFoundError(Exception):
    """A set that looked grey is not."""


@dataclass(frozen=True, slots=True)
class Donor:
    """An entry that is stale as a whole: what has not changed is taken from it, undecoded."""

    path: Path
    pixels: np.ndarray  # uint8 [n, size, size, channels]
    rows: Mapping[bytes, int]  # of what could be decoded, by the contents' digest
    remarks: np.ndarray  # uint16 [n]
    known: Mapping[bytes, tuple[int, int, bytes]]  # file name → bytes, mtime, digest

    @classmethod
    def of(cls, path: Path, index: Index, pixels: np.ndarray) -> "Donor":
        digests = [digest.tobytes() for digest in index.digests]
        good = index.reasons == ""
        names = index.names.tobytes().split(b"\0")
        settled = index.stats[:, 1] <= int(index.checked) - RACY_NS
        triples = zip(index.stats[:, 0].tolist(), index.stats[:, 1].tolist(), digests, strict=True)
        known = {
            name: found
            for name, found, sure in zip(names, triples, settled, strict=True)
            if sure and found[0] >= 0
        }
        rows = {digest: row for row, digest in enumerate(digests) if good[row]}
        return cls(path, pixels, rows, index.remarks, known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An entry to be filled."""

    files: Files
    stem: Path  # the folder and the key that it will be found by
    size: int  # pixels
    channels: int
    original_size: tuple[int, int]
    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    now: int  # when they were taken, ns since 1970
    donor: Donor | None
    looks: Sequence[Look] = ()  # at each file, where they were taken before

    @classmethod
    def of(
        cls, survey: Survey, stem: Path, *, files: Files, size: int, donor: Donor | None
    ) -> "Job":
        """At `size`, or a size chosen from the images (0)."""
        seen = survey.seen or probe(files)
        return cls(
            files=files,
            stem=stem,
            size=size or training_size(seen.original_size)[0],
            channels=seen.channels,
            original_size=seen.original_size,
            stats=survey.stats,
            now=survey.now,
            donor=donor,
            looks=survey.looks,
        )

    @property
    def num_bytes(self) -> int:
        """Of one row."""
        return self.size * self.size * self.channels

    def work(self, descriptor: int) -> Callable[[int], Row]:
        """What fills a row of the open file: taken from the donor, or else decoded."""

        def fill(row: int) -> Row:
            found, pixels = self._donated(row)
            if pixels is None:
                path = self.files.root / self.files.names[row]
                found, pixels = _decode_file(path, self.size, self.channels)
            if pixels is not None:
                os.pwrite(descriptor, pixels.tobytes(), row * self.num_bytes)
            return found

        return fill

    def _donated(self, row: int) -> tuple[Row, np.ndarray | None]:
        donor = self.donor
        if donor is None or donor.pixels.shape[1:] != (self.size, self.size, self.channels):
            return Row(b""), None
        digest = self.digest(row)
        place = donor.rows.get(digest)
        if place is None:
            return Row(b""), None
        return Row(digest, remarks=int(donor.remarks[place])), donor.pixels[place]

    def digest(self, row: int) -> bytes:
        """Of a file's contents; unread where the donor knows the file as it is."""
        name = self.files.names[row]
        known = self.donor.known.get(os.fsencode(name)) if self.donor else None
        if known is not None and known[:2] == tuple(self.stats[row].tolist()):
            return known[2]
        return digest_of(self.files.root / name)


class Filling(NamedTuple):
    """An entry that threads are at work on."""

    path: Path
    decoding: Decoding
    digests: Sequence[bytes]
    reasons: Mapping[int, str]  # of the files that are known to be damaged


def filled(job: Job, progress: Progress | None) -> None:
    """Decode everything and commit it. Raises DataError when the cache cannot be written."""
    with cache.building(job.stem.parent) as path:
        try:
            try:
                rows = _decode_all(job, path, progress)
            except _ColourFoundError:
                job = replace(job, channels=3)
                rows = _decode_all(job, path, progress)
            _commit(job, path, rows)
        except OSError as error:
            raise cache.no_room(job.stem.parent, error) from error


def filling(job: Job) -> Filling | None:
    """Begin to decode; None where it is soon done, may turn out coloured, or must be read once."""
    count = len(job.files)
    if not is_worth_looks(job.stats, job.channels):
        return None
    looks = job.looks or looks_at(count, lambda row: _look(job, row))
    digests = [look.digest for look in looks]
    suspicious = np.flatnonzero([not look.is_whole for look in looks])
    with ExitStack() as stack:
        path = stack.enter_context(cache.building(job.stem.parent))
        try:
            file = stack.enter_context((path / cache.PIXELS).open("wb"))
            os.posix_fallocate(file.fileno(), 0, count * job.num_bytes)
        except OSError as error:
            raise cache.no_room(job.stem.parent, error) from error
        kept = stack.pop_all()

    def settle(rows: Sequence[Row]) -> None:
        with kept, suppress(OSError):  # without an entry, the next training decodes again
            _commit(job, path, rows)

    decoding = Decoding(count, job.work(file.fileno()), settle=settle, threads=num_threads())
    return Filling(path, decoding, digests, decoding.seal(suspicious, digests))


def _look(job: Job, row: int) -> Look:
    """As `look_at`; what the donor knows is not read."""
    if job.donor is not None and (digest := job.digest(row)) in job.donor.rows:
        return Look(digest, True)
    return look_at(job.files.root / job.files.names[row])


def _decode_all(job: Job, path: Path, progress: Progress | None) -> list[Row]:
    count = len(job.files)
    with (path / cache.PIXELS).open("wb") as file:
        # Reserved at once: a full disk is an error here and not a bus error in a memory map later.
        os.posix_fallocate(file.fileno(), 0, max(1, count * job.num_bytes))
        rows = []
        with closing(in_threads(job.work(file.fileno()), range(count))) as results:
            for row in results:
                rows.append(row)
                if progress is not None and len(rows) % 16 == 0:
                    progress(len(rows), count)
    if progress is not None:
        progress(count, count)
    return rows


def _commit(job: Job, path: Path, rows: Sequence[Row]) -> None:
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
    if job.donor is not None:
        cache.remove(job.donor.path)
    cache.commit(path, final, manifest)
    cache.evict(job.stem.parent, keep=final)


def _decode_file(path: Path, size: int, channels: int) -> tuple[Row, np.ndarray | None]:
    try:
        data = read_file(path)
    except DataError as error:
        return Row(digest_of(path), reason=error.problem), None
    digest = blake2b(data, digest_size=DIGEST_BYTES).digest()
    try:
        found = decode(data, size=size)
    except DataError as error:
        return Row(digest, reason=error.problem), None
    if channels == 1 and not is_grey(found.pixels):
        raise _ColourFoundError
    bits = sum(1 << REMARKS.index(remark) for remark in found.remarks)
    return Row(digest, remarks=bits), with_channels(found.pixels, channels)
