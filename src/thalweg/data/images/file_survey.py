"""Survey a set of image files before decoding: stats, digests, size. Needs no PyTorch."""

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
from thalweg.data.images.find_near_copies import LEAST_SIZE
from thalweg.data.images.formats import is_whole, read_file
from thalweg.data.images.image_size import ImageSample, sample_images, training_size
from thalweg.data.samples import SPLITS, Files, Samples
from thalweg.data.sources import samples_at
from thalweg.data.threads import in_threads, num_threads
from thalweg.errors import DataError

CHECKS_PER_TASK = 256  # a check takes 30 µs: in smaller tasks the threads would mostly wait
FEW = 256  # images that are decoded in a moment
_MEMORY_DIVISOR = 2  # files are read twice only if half of the memory holds them all


class FileCheck(NamedTuple):
    """Digest of a file, and whether its start and end are those of an image."""

    digest: bytes
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Stats of the files at one moment; with more where background decoding needs it."""

    stats: np.ndarray  # int64 [n, 2]: bytes, mtime in ns
    now: int  # time of the stats, ns since 1970
    images: ImageSample | None = None
    checks: Sequence[FileCheck] = ()


def survey_path(
    path: Path, *, target: str, size: int, group: str = ""
) -> tuple[Samples, Survey | None]:
    """List the samples at a path and survey their files, as a training with overlap would.

    It leaves one core to the process that waits for it. DataError as `samples_at`.
    """
    samples = samples_at(path, target=target, group=group)
    files = samples.inputs
    if not isinstance(files, Files):
        return samples, None
    plain = survey_of(files)
    if next(iter(cache.entries_for(cache.default_cache_dir(), key_of(files, size))), None):
        return samples, plain  # a cached entry most likely needs no checks
    images = sample_images(files)
    if _waits_for_near_copies(samples, size or training_size(images.original_size)[0]):
        return samples, Survey(stats=plain.stats, now=plain.now, images=images)
    if not can_decode_in_background(plain.stats, images.channels):
        return samples, Survey(stats=plain.stats, now=plain.now, images=images)
    checks = check_files(
        len(files),
        lambda row: check_file(files.root / files.names[row]),
        threads=max(1, num_threads() - 1),
    )
    return samples, Survey(stats=plain.stats, now=plain.now, images=images, checks=checks)


def _waits_for_near_copies(samples: Samples, size: int) -> bool:
    """Return whether images are decoded before any is used, since they are still to be divided."""
    return size >= LEAST_SIZE and not (samples.splits == SPLITS.index("val")).any()


def survey_of(files: Files) -> Survey:
    """Bytes and mtime of every file; −1 for a missing one."""
    now, stats = time.time_ns(), np.full((len(files), 2), -1, dtype=np.int64)
    for row, name in enumerate(files.names):
        try:
            status = os.stat(files.root / name)  # noqa: PTH116 (half the time of Path.stat)
        except OSError:
            continue
        stats[row] = status.st_size, status.st_mtime_ns
    return Survey(stats=stats, now=now)


def key_of(files: Files, size: int) -> str:
    """Cache key of a set of files at `size` px, or at a size chosen from the images (0)."""
    text = f"{files.origin.resolve()}\0{size}\0{POLICY_VERSION}"
    return blake2b(os.fsencode(text), digest_size=12).hexdigest()


def can_decode_in_background(stats: np.ndarray, channels: int) -> bool:
    """Return whether to decode in the background: not few files, grey ones that may prove coloured,
    or more bytes than memory holds, since the files are read twice.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return bool(
        len(stats) > FEW and channels != 1 and stats[:, 0].sum() * _MEMORY_DIVISOR <= memory
    )


def check_files(
    count: int, check: Callable[[int], FileCheck], *, threads: int = 0
) -> list[FileCheck]:
    """Check `count` files in threads, in order."""
    return list(in_threads(check, range(count), at_once=CHECKS_PER_TASK, threads=threads))


def check_file(path: Path) -> FileCheck:
    """Compute a file's digest and check both its ends; nothing is decoded."""
    try:
        data = read_file(path)
    except DataError as error:
        return FileCheck(_error_digest(error), False)
    return FileCheck(blake2b(data, digest_size=DIGEST_BYTES).digest(), is_whole(data))


def digest_of(path: Path) -> bytes:
    """Digest of a file's contents, or of the reason why it cannot be read."""
    try:
        return blake2b(read_file(path), digest_size=DIGEST_BYTES).digest()
    except DataError as error:
        return _error_digest(error)


def _error_digest(error: DataError) -> bytes:
    return blake2b(error.problem.encode(), digest_size=DIGEST_BYTES).digest()
