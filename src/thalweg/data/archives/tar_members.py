"""The members of a tar file, read once from its beginning to its end, each checked as it comes."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

from thalweg.data.archives.bounds import BoundedStream, Readable, Tally, refuse, safe_parts
from thalweg.data.archives.zip_members import Member
from thalweg.errors import DataError

LONGEST_HEADER = 1 << 20  # bytes of a header with long names; the memory holds it
_COMPRESSED: dict[bytes, Callable[[Path], Readable]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_LONG_HEADERS = frozenset(
    {
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    }
)


class _Header(tarfile.TarInfo):
    """A header of which a damaged one is an error: tarfile itself takes it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise _DamagedTarError(str(error)) from error
        too_long = header.type in _LONG_HEADERS and header.size > LONGEST_HEADER
        if header.size < 0 or too_long:
            raise _DamagedTarError("a header of impossible length")
        return header


class _DamagedTarError(Exception):
    """A header that is none."""


def tar_members(path: Path, tally: Tally) -> Iterator[Member]:
    """Each file and folder of a tar, plain or compressed. Raises RefusedArchiveError."""
    try:
        with (
            BufferedReader(BoundedStream(_opened(path), archive=path)) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive,
        ):
            for member in archive:
                yield _checked(path, member, tally=tally, archive=archive)
    except DataError:
        raise
    except Exception as error:  # a damaged archive makes the readers raise any kind of error
        raise refuse(path, "it is damaged, or no tar file", str(error)) from error


def _opened(path: Path) -> Readable:
    with path.open("rb") as file:
        start = file.read(6)
    for magic, open_stream in _COMPRESSED.items():
        if start.startswith(magic):
            return open_stream(path)
    return path.open("rb")


def _checked(
    path: Path, member: tarfile.TarInfo, *, tally: Tally, archive: tarfile.TarFile
) -> Member:
    """The member. Raises RefusedArchiveError for one that is not unpacked."""
    if member.issym() or member.islnk():
        raise refuse(path, "it holds a link", f"{member.name} → {member.linkname}")
    if not (member.isfile() or member.isdir()):
        raise refuse(path, "it holds a device, a pipe or a socket", member.name)
    if member.issparse():
        raise refuse(path, "it holds a file with holes", member.name)
    tally.add(member.size, member.name)
    tally.check_room(member.size)
    parts = safe_parts(path, member.name)
    return parts, member.size, None if member.isdir() else archive.extractfile(member)
