"""The cache of decoded images: one folder an entry, in the user's cache directory.

`<key>-<contents>/` holds `pixels.u8` (n × h × w × c bytes), `index.npz` (what each row was decoded
from), `manifest.json`, and `features-…` where transfer has computed some. An entry is built under
another name, locked, and renamed when whole: what is found under a final name is complete. Entries
are never changed, but for those features; they are replaced.
"""

import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from thalweg.errors import DataError

LIMIT_BYTES = 32 << 30  # of all entries; the least recently used go first
MANIFEST = "manifest.json"
PIXELS = "pixels.u8"
INDEX = "index.npz"
PLANS = "plans"  # what was measured of models, not of data: see `thalweg.planning.speed.cache`
FEATURES = "features-"  # files of what a frozen network made of the pixels begin so
_UNBORN = "unborn-"  # not locked yet
_BUILDING = "building-"
_LOCK = "lock"
_ENTRY_NAME = re.compile("[0-9a-f]{24}-[0-9a-f]{16}")  # key and contents


class CacheEntry(NamedTuple):
    """One decoded data set on disk."""

    path: Path
    source: str  # the folder or file that it was decoded from
    images: int
    image_size: int  # pixels
    num_bytes: int
    used: float  # seconds since 1970, when it was last trained on


def default_cache_dir() -> Path:
    """$THALWEG_CACHE, or `thalweg` in the user's cache directory. It need not exist."""
    if chosen := os.environ.get("THALWEG_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "thalweg"


def writable_cache_dir() -> tuple[Path, str]:
    """The cache directory, made; or one in the temporary directory, and a note that says so."""
    folder = default_cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder, ""
    except OSError as error:
        spare = _spare_dir()
        reason = error.strerror or str(error)
        note = (
            f"the cache {folder} cannot be written ({reason}): {spare} is used; set THALWEG_CACHE"
        )
        return spare, note


def _spare_dir() -> Path:
    """Ours alone: in a shared temporary directory, others could have put something in its place."""
    folder = Path(tempfile.gettempdir()) / f"thalweg-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid == os.getuid() and not folder.is_symlink():
            return folder
        return Path(tempfile.mkdtemp(prefix="thalweg-cache-"))
    except OSError as error:
        raise no_room(folder, error) from error


def no_room(folder: Path, error: OSError) -> DataError:
    """The error for a cache that cannot be written."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return DataError(
        "the disk of the cache is full" if full else "the cache cannot be written",
        seen=f"{folder}: {error.strerror or error}",
        fix="run `thalweg cache --clear`, or set THALWEG_CACHE to a folder with room",
    )


def cache_entries() -> list[CacheEntry]:
    """What the cache holds, the last used first."""
    found = [_described(path) for path in _finished(default_cache_dir())]
    return sorted((e for e in found if e is not None), key=lambda e: -e.used)


def clear_cache() -> int:
    """Delete every entry and every leftover; the bytes that this freed. Running trainings go on."""
    folder = default_cache_dir()
    freed = sum(entry.num_bytes for entry in cache_entries())
    for path in _finished(folder):
        remove(path)
    shutil.rmtree(folder / PLANS, ignore_errors=True)
    sweep(folder)
    return freed


def evict(folder: Path, *, keep: Path, limit: int = LIMIT_BYTES) -> None:
    """Delete the least recently used entries until the rest fits the limit; never `keep`."""
    found = [e for e in map(_described, _finished(folder)) if e is not None]
    total = sum(entry.num_bytes for entry in found)
    for entry in sorted(found, key=lambda entry: entry.used):
        if total <= limit:
            return
        if entry.path != keep:
            remove(entry.path)
            total -= entry.num_bytes


def entries_for(folder: Path, key: str) -> list[Path]:
    """The entries of one source and size, the newest first."""
    found = [path for path in _finished(folder) if path.name.startswith(key + "-")]
    return sorted(found, key=_age)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The entry's manifest; None when it is gone or damaged."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        whole = (path / PIXELS).stat().st_size == manifest["num_bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def touch(path: Path) -> None:
    """Mark an entry as just used."""
    try:
        os.utime(path / MANIFEST)
    except OSError:
        return  # somebody else's cache, or gone: neither is worth a word


def remove(path: Path) -> None:
    """Delete an entry at once for whoever looks for it; who has it mapped keeps it."""
    doomed = path.with_name(f"{_BUILDING}{uuid4().hex}")
    try:
        path.rename(doomed)
    except OSError:
        return  # another process was quicker
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A folder to build an entry in; deleted on leaving unless `commit` has moved it away."""
    sweep(folder)
    unborn = folder / f"{_UNBORN}{uuid4().hex}"
    path = folder / f"{_BUILDING}{uuid4().hex}"
    try:
        unborn.mkdir()
        descriptor = os.open(unborn / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        flock(descriptor, LOCK_EX)  # tells `sweep` that the builder lives; a kill releases it
        unborn.rename(path)
    except OSError as error:
        raise no_room(folder, error) from error
    try:
        yield path
    finally:
        os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)


def commit(path: Path, final: Path, manifest: Mapping[str, Any]) -> None:
    """Make a built entry the one called `final`. If another process was quicker, theirs stands."""
    for name in (PIXELS, INDEX):
        _sync(path / name)
    (path / MANIFEST).write_text(json.dumps(manifest))
    _sync(path / MANIFEST)
    _sync(path)
    try:
        path.rename(final)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return
    _sync(final.parent)


def sweep(folder: Path) -> None:
    """Delete what builders left behind that were killed."""
    for path in folder.glob(f"{_UNBORN}*"):
        if _age(path) > 3600:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{_BUILDING}*"):
        if not _is_locked(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _finished(folder: Path) -> list[Path]:
    """Paths that are named like entries; nothing else in the folder is ours to touch."""
    return [path for path in folder.glob("*-*") if _ENTRY_NAME.fullmatch(path.name)]


def _described(path: Path) -> CacheEntry | None:
    manifest = read_manifest(path)
    if manifest is None:
        return None
    used = time.time() - _age(path / MANIFEST)
    num_bytes = manifest["num_bytes"] + sum(_bytes(f) for f in path.glob(f"{FEATURES}*"))
    return CacheEntry(
        path, manifest["source"], manifest["images"], manifest["size"], num_bytes, used
    )


def _bytes(path: Path) -> int:
    """Of the file; 0 of what is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _age(path: Path) -> float:
    """Seconds since the last change; infinite for what is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
