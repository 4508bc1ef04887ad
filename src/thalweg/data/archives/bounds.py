"""Bounds on what an archive may unpack into, and the names that its members may have."""

import io
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from thalweg.errors import DataError, printable

MOST_FILES = 1_500_000
MOST_BYTES = 200 << 30
MOST_RATIO = 200  # of unpacked to packed bytes: deflate reaches 1,032 on zeros, photographs 1
SMALL = 1 << 20  # bytes, below which the ratio does not matter
MOST_PARTS = 32  # folders within folders
LONGEST_NAME = 1024  # characters
SPARE_BYTES = 256 << 20  # that unpacking leaves free on the disk
ARCHIVE_SUFFIXES = (
    *(".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz"),
)
FOREIGN_SUFFIXES = (".7z", ".rar", ".tar.zst", ".tzst", ".cab", ".iso")
BAD_NAME = "a member's name is too long, or no name"
_DRIVE = re.compile("[A-Za-z]:")


class RefusedArchiveError(DataError):
    """An archive that is not unpacked, and the reason."""


def refuse(archive: Path, reason: str, member: str = "") -> RefusedArchiveError:
    """The error for an archive that is damaged, or that somebody may have made to do harm."""
    return RefusedArchiveError(
        f"{archive} is not unpacked: {reason}",
        seen=printable(member)[:200],
        fix="if you trust it, unpack it yourself and name what comes out",
    )


@dataclass(slots=True)
class Tally:
    """Members and bytes of an archive so far; raises once they exceed a bound."""

    archive: Path
    folder: Path  # on the disk that it is unpacked to
    packed: int  # bytes
    files: int = 0
    num_bytes: int = 0

    def add(self, size: int, member: str) -> None:
        """Count a member. Raises RefusedArchiveError."""
        self.files += 1
        self.num_bytes += size
        if size < 0:
            raise refuse(self.archive, "it is damaged", member)
        if self.files > MOST_FILES:
            raise refuse(self.archive, f"it has more than {MOST_FILES:,} members", member)
        check_total(self.archive, self.num_bytes, packed=self.packed)

    def check_room(self, size: int) -> None:
        """Raises DataError where the disk has no room for so many bytes more."""
        free = shutil.disk_usage(self.folder).free
        if free < size + SPARE_BYTES:
            raise DataError(
                f"the disk of the cache has no room for the contents of {self.archive}",
                seen=f"{free / 1e9:.1f} GB are free in {self.folder}",
                fix="run `thalweg cache --clear`, or set THALWEG_CACHE to a folder with room",
            )


def check_total(archive: Path, num_bytes: int, *, packed: int) -> None:
    """Raises RefusedArchiveError where so many bytes are too many of an archive of that size."""
    if num_bytes > MOST_BYTES:
        raise refuse(archive, f"it unpacks into more than {MOST_BYTES >> 30} GiB")
    if num_bytes > max(SMALL, MOST_RATIO * packed):
        raise refuse(
            archive,
            f"it unpacks into more than {MOST_RATIO} times its size",
            f"{num_bytes:,} bytes of {packed:,}",
        )


def safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The folders and the file of a member's name; () for the archive's own folder.

    Raises RefusedArchiveError for a name that leads out of the folder it is unpacked to.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path):
        raise refuse(archive, "a member has an absolute path", name)
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise refuse(archive, "a member's path leads out of the folder", name)
    if len(parts) > MOST_PARTS or len(path) > LONGEST_NAME or "\0" in path:
        raise refuse(archive, BAD_NAME, name)
    if path.lower().endswith((*ARCHIVE_SUFFIXES, *FOREIGN_SUFFIXES)):
        raise refuse(archive, "it holds another archive", name)
    return parts


@runtime_checkable
class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""

    def close(self) -> None:
        """Close the file below."""


class BoundedStream(io.RawIOBase):
    """A decompressed stream that ends in an error once it has given too many bytes."""

    def __init__(self, stream: Readable, *, archive: Path) -> None:
        self._stream, self._archive = stream, archive
        self._packed = archive.stat().st_size
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._given += len(data)
        check_total(self._archive, self._given, packed=self._packed)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
