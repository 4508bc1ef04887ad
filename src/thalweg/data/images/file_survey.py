"""What a look at a set of files tells before any is decoded for good. Needs no PyTorch."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.images import cache
from thalweg.data.images.cache_index import DIGEST_BYTES
from thalweg.data.images.decode import POLICY_VERSION
from thalweg.data.images.formats import is_whole, read_file
from thalweg.data.images.image_size import Probe, probe
from thalweg.data.samples import Files, Samples
from thalweg.data.sources import samples_at
from thalweg.data.threads import in_threads, num_threads
from thalweg.errors import DataError

LOOKS_PER_TASK = 256  # a look takes 30 µs: in smaller tasks the threads would mostly wait
FEW = 256  # images that are decoded before anybody has noticed
_SHARE_OF_MEMORY = 2  # files are read twice where half of the memory holds them all


class Look(NamedTuple):
    """What one file's bytes tell."""

    digest: bytes
    is_whole: bool  # an image, as far as its ends tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of the files at a moment; no more than their stats, where no more is wanted."""

    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    now: int  # when they were taken, ns since 1970
    seen: Probe | None = None
    looks: Sequence[Look] = ()


def surveyed(path: Path, *, target: str, size: int) -> tuple[Samples, Survey | None]:
    """The samples at a path and, of files, what a training that overlaps would look up itself.

    Made beside another process's work: one processor is left alone. DataError as `samples_at`.
    """
    samples = samples_at(path, target=target)
    files = samples.inputs
    if not isinstance(files, Files):
        return samples, None
    plain = survey_of(files)
    if next(iter(cache.entries_for(cache.default_cache_dir(), key_of(files, size))), None):
        return samples, plain  # which most likely needs no looks
    seen = probe(files)
    if not is_worth_looks(plain.stats, seen.channels):
        return samples, Survey(stats=plain.stats, now=plain.now, seen=seen)
    looks = looks_at(
        len(files),
        lambda row: look_at(files.root / files.names[row]),
        threads=max(1, num_threads() - 1),
    )
    return samples, Survey(stats=plain.stats, now=plain.now, seen=seen, looks=looks)


def survey_of(files: Files) -> Survey:
    """Bytes and mtime of every file; −1 for one that is gone."""
    now, stats = time.time_ns(), np.full((len(files), 2), -1, dtype=np.int64)
    for row, name in enumerate(files.names):
        try:
            status = os.stat(files.root / name)  # noqa: PTH116 (half the time of Path.stat)
        except OSError:
            continue
        stats[row] = status.st_size, status.st_mtime_ns
    return Survey(stats=stats, now=now)


def key_of(files: Files, size: int) -> str:
    """What the cache knows a set of files by, at `size` px, or at a size chosen from them (0)."""
    text = f"{files.origin.resolve()}\0{size}\0{POLICY_VERSION}"
    return blake2b(os.fsencode(text), digest_size=12).hexdigest()


def is_worth_looks(stats: np.ndarray, channels: int) -> bool:
    """Whether files may be decoded while others are used: not where that is soon done, where they
    may turn out coloured, or must be read once.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return bool(
        len(stats) > FEW and channels != 1 and stats[:, 0].sum() * _SHARE_OF_MEMORY <= memory
    )


def looks_at(count: int, look: Callable[[int], Look], *, threads: int = 0) -> list[Look]:
    """One at each of so many files, in order."""
    return list(in_threads(look, range(count), at_once=LOOKS_PER_TASK, threads=threads))


def look_at(path: Path) -> Look:
    """The file's digest, and whether it is an image that is whole; nothing is decoded."""
    try:
        data = read_file(path)
    except DataError as error:
        return Look(_unreadable(error), False)
    return Look(blake2b(data, digest_size=DIGEST_BYTES).digest(), is_whole(data))


def digest_of(path: Path) -> bytes:
    """The digest of a file's contents, or of why it cannot be read."""
    try:
        return blake2b(read_file(path), digest_size=DIGEST_BYTES).digest()
    except DataError as error:
        return _unreadable(error)


def _unreadable(error: DataError) -> bytes:
    return blake2b(error.problem.encode(), digest_size=DIGEST_BYTES).digest()
