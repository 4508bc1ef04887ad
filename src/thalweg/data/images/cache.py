"""Cache of decoded images, one folder an entry, in the user's cache directory.

`<key>-<contents>/` holds `pixels.u8` (n × h × w × c bytes), `index.npz` (each row's file and
checksum), `manifest.json`, and `features-…` if transfer has computed some. An entry is built under
a temporary name, locked, and renamed when it is whole, so an entry under its final name is
complete. Entries never change, except for the features; they are replaced. An unpacked archive is
an entry, too.
"""

import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4
from zlib import crc32

from thalweg.errors import DataError
from thalweg.files import read_json_object, write_new
from thalweg.portable import flush_folder, home, lock_file, user_id

LIMIT_BYTES = 32 << 30  # of all entries; the least recently used are deleted first
MANIFEST = "manifest.json"
PIXELS = "pixels.u8"
INDEX = "index.npz"
PLANS = "plans"  # autotuned numerics: see `thalweg.planning.speed.cache`
UNPACKED = "files"  # folder of the contents of an archive: see `thalweg.data.archives`
FEATURES = "features-"  # prefix of the files of a frozen network's features
_UNLOCKED = "unborn-"  # prefix of a folder that is not locked yet
_BUILDING = "building-"
_LOCK = "lock"
LONGEST_BUILD = 86_400  # seconds, where no lock shows that a builder lives
_ENTRY_NAME = re.compile("[0-9a-f]{24}-[0-9a-f]{16}")  # key and contents


class CacheEntry(NamedTuple):
    """One decoded data set, or unpacked archive, on disk."""

    path: Path
    source: str  # the folder or file that it was decoded from
    images: int  # of an archive: its files
    image_size: int  # pixels; 0: an unpacked archive
    num_bytes: int
    used: float  # seconds since 1970, when it was last trained on


def default_cache_dir() -> Path:
    """$THALWEG_CACHE, or `thalweg` in the user's cache directory; it may not exist."""
    if chosen := os.environ.get("THALWEG_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home() / ".cache") / "thalweg"


def writable_cache_dir() -> tuple[Path, str]:
    """Create the cache directory, or one in the temporary directory with a note about it."""
    folder = default_cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder, ""
    except OSError as error:
        spare = _temporary_cache_dir()
        reason = error.strerror or str(error)
        note = f"the cache {folder} cannot be written ({reason}); using {spare}; set THALWEG_CACHE"
        return spare, note


def _temporary_cache_dir() -> Path:
    """A directory that this user owns: in a shared one others could have put a link there."""
    folder = Path(tempfile.gettempdir()) / f"thalweg-cache-{user_id()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if _is_mine(folder.lstat()) and not folder.is_symlink():
            return folder
        return Path(tempfile.mkdtemp(prefix="thalweg-cache-"))
    except OSError as error:
        raise cache_error(folder, error) from error


def cache_error(folder: Path, error: OSError) -> DataError:
    """The error for a cache that cannot be written."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return DataError(
        "the disk of the cache is full" if full else "the cache cannot be written",
        seen=f"{folder}: {error.strerror or error}",
        fix="run `thalweg cache --clear`, or set THALWEG_CACHE to a folder with room",
    )


def cache_entries() -> list[CacheEntry]:
    """The entries of the cache, the last used first."""
    entries = [_read_entry(path) for path in _entry_paths(default_cache_dir())]
    return sorted((e for e in entries if e is not None), key=lambda e: -e.used)


def clear_cache() -> int:
    """Delete all entries and leftovers; return the bytes freed. Running trainings go on."""
    folder = default_cache_dir()
    freed = sum(entry.num_bytes for entry in cache_entries())
    for path in _entry_paths(folder):
        remove(path)
    shutil.rmtree(folder / PLANS, ignore_errors=True)
    sweep(folder)
    return freed


def evict(folder: Path, *, keep: Path, limit: int = LIMIT_BYTES) -> None:
    """Delete the least recently used entries until the rest fits the limit; never `keep`."""
    entries = []
    for path in _entry_paths(folder):
        if (entry := _read_entry(path)) is not None:
            entries.append(entry)
        elif path != keep:
            remove(path)  # damaged, or of an older version
    total = sum(entry.num_bytes for entry in entries)
    for entry in sorted(entries, key=lambda entry: entry.used):
        if total <= limit:
            return
        if entry.path != keep:
            remove(entry.path)
            total -= entry.num_bytes


def _is_mine(status: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def entries_for(folder: Path, key: str) -> list[Path]:
    """The entries of one source and size, the newest first."""
    paths = [path for path in _entry_paths(folder) if path.name.startswith(key + "-")]
    return sorted(paths, key=_age)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of decoded images; None if it is gone or damaged."""
    manifest = _sealed_manifest(path)
    try:
        whole = manifest and (path / PIXELS).stat().st_size == manifest["num_bytes"]
    except (OSError, KeyError):
        return None
    return manifest if whole else None


def is_unpacked(path: Path) -> bool:
    """Return whether an entry has all the files that an archive was unpacked into."""
    manifest = _sealed_manifest(path)
    if manifest is None or "files" not in manifest:
        return False
    sizes = [
        _file_bytes(Path(folder, name))
        for folder, _, names in os.walk(path / UNPACKED)
        for name in names
    ]
    return (len(sizes), sum(sizes)) == (manifest["files"], manifest["num_bytes"])


def _sealed_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of an entry; None if it is gone or damaged."""
    try:
        manifest = read_json_object(path / MANIFEST)
        return manifest if manifest.pop("checksum") == _checksum(manifest) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(manifest: Mapping[str, Any]) -> int:
    return crc32(json.dumps(manifest, sort_keys=True).encode())


def touch(path: Path) -> None:
    """Mark an entry as just used."""
    try:
        os.utime(path / MANIFEST)
    except OSError:
        return  # somebody else's cache, or deleted: neither matters


def remove(path: Path) -> None:
    """Delete an entry atomically; a process that has it mapped keeps its memory."""
    doomed = path.with_name(f"{_BUILDING}{uuid4().hex}")
    try:
        path.rename(doomed)
    except OSError:
        return  # another process was faster
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def entry_folder(folder: Path) -> Iterator[Path]:
    """A locked folder to build an entry in; deleted on leaving unless `commit` has renamed it."""
    sweep(folder)
    unlocked = folder / f"{_UNLOCKED}{uuid4().hex}"
    path = folder / f"{_BUILDING}{uuid4().hex}"
    try:
        unlocked.mkdir()
        descriptor = os.open(unlocked / _LOCK, os.O_CREAT | os.O_RDWR)
        lock_file(
            descriptor, wait=True
        )  # shows `sweep` that the builder is alive; a kill releases it
        unlocked.rename(path)
    except OSError as error:
        raise cache_error(folder, error) from error
    try:
        yield path
    finally:
        os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)


def commit(
    path: Path,
    final: Path,
    manifest: Mapping[str, Any],
    *,
    flush: Sequence[str] = (PIXELS, INDEX),
) -> None:
    """Rename a built entry to `final`; if another process was faster, its entry stays.

    The files named in `flush` are on the disk before.
    """
    for name in flush:
        _sync(path / name)
    sealed = {**manifest, "checksum": _checksum(manifest)}
    write_new(path / MANIFEST, json.dumps(sealed).encode(), flush=True)
    flush_folder(path)
    try:
        path.rename(final)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return
    flush_folder(final.parent)


def sweep(folder: Path) -> None:
    """Delete the folders of killed builders."""
    for path in folder.glob(f"{_UNLOCKED}*"):
        if _age(path) > 3600:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{_BUILDING}*"):
        if not _is_locked(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        locked = lock_file(descriptor, wait=False)
    finally:
        os.close(descriptor)
    return _age(path) < LONGEST_BUILD if locked is None else not locked


def _entry_paths(folder: Path) -> list[Path]:
    """Paths with the name of an entry; nothing else in the folder is touched."""
    return [path for path in folder.glob("*-*") if _ENTRY_NAME.fullmatch(path.name)]


def _read_entry(path: Path) -> CacheEntry | None:
    manifest = _sealed_manifest(path)
    if manifest is None:
        return None
    used = time.time() - _age(path / MANIFEST)
    num_bytes = manifest["num_bytes"] + sum(_file_bytes(f) for f in path.glob(f"{FEATURES}*"))
    images = manifest.get("images", manifest.get("files", 0))
    return CacheEntry(path, manifest["source"], images, manifest.get("size", 0), num_bytes, used)


def _file_bytes(path: Path) -> int:
    """Size of the file; 0 if it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _age(path: Path) -> float:
    """Seconds since the last change; infinite if it is gone."""
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
