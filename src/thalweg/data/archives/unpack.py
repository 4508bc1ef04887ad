"""Unpack an archive into the cache, once; later trainings find it there."""

import errno
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from thalweg.data.archives.bounds import (
    ARCHIVE_SUFFIXES,
    BAD_NAME,
    FOREIGN_SUFFIXES,
    Readable,
    Tally,
    refuse,
)
from thalweg.data.archives.tar_members import tar_members
from thalweg.data.archives.zip_members import Member, zip_members
from thalweg.data.ignored_names import is_ignored
from thalweg.data.images import cache
from thalweg.errors import DataError

CHUNK = 1 << 20  # bytes
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_REASONS = {
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "two members' names clash"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL), BAD_NAME),
}


def is_archive(path: Path) -> bool:
    """Return whether the path is a file with an archive's name.

    Raises DataError for an archive of a kind that is not read.
    """
    name = path.name.lower()
    if name.endswith(FOREIGN_SUFFIXES) and path.is_file():
        raise DataError(
            f"{path} is an archive of a kind that is not read",
            seen=path.suffix,
            fix="unpack it and name the folder, or give a .zip or .tar.gz",
        )
    return name.endswith(ARCHIVE_SUFFIXES) and path.is_file()


def unpacked_folder(path: Path) -> tuple[Path, list[str]]:
    """The folder with an archive's contents, in the cache; and notes about the cache.

    Nothing of an archive with a member that is refused is left. Raises RefusedArchiveError for
    such a one; DataError where the cache cannot be written.
    """
    folder, note = cache.writable_cache_dir()
    notes = [note] if note else []
    key, contents = _key(path)
    final = folder / f"{key}-{contents}"
    if cache.is_unpacked(final):
        cache.touch(final)
        return final / cache.UNPACKED, notes
    with cache.entry_folder(folder) as building:
        (building / cache.UNPACKED).mkdir()
        manifest = _unpack(path, building / cache.UNPACKED)
        for stale in cache.entries_for(folder, key):
            cache.remove(stale)
        cache.commit(building, final, manifest, flush=())
    cache.evict(folder, keep=final)
    return final / cache.UNPACKED, notes


def _key(path: Path) -> tuple[str, str]:
    """The cache key of an archive, and a digest of its size and time."""
    status = path.stat()
    stamp = f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}".encode()
    name = b"archive\0" + os.fsencode(path.resolve())
    return blake2b(name, digest_size=12).hexdigest(), blake2b(stamp, digest_size=8).hexdigest()


def _unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Write all files of the archive below the folder; return the manifest of the entry."""
    tally = Tally(path, folder, path.stat().st_size)
    files = num_bytes = 0
    for parts, size, file in _members(path, tally):
        if file is None or not parts or any(map(is_ignored, parts)):
            continue
        name = "/".join(parts)
        try:
            _write(folder.joinpath(*parts), _chunks(path, name, file=file, size=size))
        except OSError as error:
            if reason := _REASONS.get(error.errno or 0):
                raise refuse(path, reason, name) from error
            raise cache.cache_error(folder, error) from error
        files, num_bytes = files + 1, num_bytes + size
    return {"source": str(path.absolute()), "files": files, "num_bytes": num_bytes}


def _members(path: Path, tally: Tally) -> Iterator[Member]:
    return zip_members(path, tally) if path.suffix.lower() == ".zip" else tar_members(path, tally)


def _chunks(path: Path, name: str, *, file: Readable, size: int) -> Iterator[bytes]:
    """The bytes of a member. Raises RefusedArchiveError where they are damaged or too few."""
    while size:
        try:
            data = file.read(min(size, CHUNK))
        except DataError:
            raise
        except Exception as error:  # a damaged archive makes the readers raise any kind of error
            raise refuse(path, "it is damaged", f"{name}: {error}") from error
        if not data:
            raise refuse(path, "it is damaged", f"{name} ends too early")
        yield data
        size -= len(data)


def _write(target: Path, chunks: Iterator[bytes]) -> None:
    """Write a new file; nothing is written through a link or over another file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(target, _FRESH, 0o600), "wb") as file:
        for chunk in chunks:
            file.write(chunk)
