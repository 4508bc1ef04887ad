"""The members of a zip file, each checked before any is unpacked."""

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from thalweg.data.archives.bounds import (
    BAD_NAME,
    MOST_FILES,
    MOST_RATIO,
    SMALL,
    Readable,
    Tally,
    refuse,
    safe_parts,
)
from thalweg.errors import DataError

Member = tuple[tuple[str, ...], int, Readable | None]  # parts of its name, bytes; None: a folder
BYTES_PER_MEMBER = 512  # of the directory at the end, on average at most
_END = struct.Struct("<4s4H2LH")  # the record at the end of the file: APPNOTE.TXT 4.3.16
_END_64 = b"PK\x06\x06"  # the same for more than 65,535 members: 4.3.14
_LONGEST_COMMENT = 1 << 16
_UNIX = 3  # the system whose modes a member's attributes hold
_ENCRYPTED = 1


def zip_members(path: Path, tally: Tally) -> Iterator[Member]:
    """Each file and folder of a zip. Raises RefusedArchiveError."""
    with _open_zip(path) as archive:
        members = archive.infolist()
        parts = [_checked(path, member, tally) for member in members]
        tally.check_room(tally.num_bytes)
        for member, name in zip(members, parts, strict=True):
            if member.is_dir():
                yield name, 0, None
                continue
            with archive.open(member) as file:
                yield name, member.file_size, file


def unpacked_bytes(path: Path) -> int:
    """The bytes that a zip says it unpacks into. Raises RefusedArchiveError where it is damaged."""
    with _open_zip(path) as archive:
        return sum(member.file_size for member in archive.infolist())


@contextmanager
def _open_zip(path: Path) -> Iterator[ZipFile]:
    _check_directory(path)
    try:
        with ZipFile(path) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # a damaged directory makes zipfile raise any kind of error
        raise refuse(path, "it is damaged", str(error)) from error


def _check_directory(path: Path) -> None:
    """Raises RefusedArchiveError for a directory so long that it would fill the memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _LONGEST_COMMENT - _END.size - 128))
        tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + _END.size:
        raise refuse(path, "it is damaged, or no zip file")
    _, _, _, _, _, length, _, _ = _END.unpack_from(tail, place)
    if length == 0xFFFFFFFF and (long := tail.rfind(_END_64, 0, place)) >= 0:
        length = int.from_bytes(tail[long + 40 : long + 48], "little")
    if length > min(size, MOST_FILES * BYTES_PER_MEMBER):
        raise refuse(path, f"it has more than {MOST_FILES:,} members, or is damaged")


def _checked(path: Path, member: ZipInfo, tally: Tally) -> tuple[str, ...]:
    """The parts of a member's name. Raises RefusedArchiveError for one that is not unpacked."""
    kind = stat.S_IFMT(member.external_attr >> 16) if member.create_system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "a device, a pipe or a socket"
        raise refuse(path, f"it holds {what}", member.filename)
    if "\0" in member.orig_filename:
        raise refuse(path, BAD_NAME, member.orig_filename)
    if member.flag_bits & _ENCRYPTED:
        raise refuse(path, "it is encrypted", member.filename)
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise refuse(path, "it is compressed in another way than deflate", member.filename)
    if member.file_size > max(SMALL, MOST_RATIO * member.compress_size):
        seen = f"{member.filename}: {member.file_size:,} bytes of {member.compress_size:,}"
        raise refuse(path, f"a member unpacks into more than {MOST_RATIO} times its size", seen)
    tally.add(member.file_size, member.filename)
    return safe_parts(path, member.filename)
