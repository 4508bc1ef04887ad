"""Read and write the small files of a folder that may come from anybody.

A name in such a folder may be a symbolic link to a file of the user, a FIFO that never ends, or a
file of a size that no memory holds; JSON in it may be nested ten thousand deep. So reading takes
regular files up to a limit, and writing replaces a file whole: nothing is written through a link.
"""

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from thalweg.paths import unwritable

LARGEST_TEXT = 64 << 20  # bytes of a text or JSON file; ours have some kilobytes
LARGEST_LOG = 1 << 30  # bytes of another trainer's log
LARGEST_HEADER = 16 << 20  # bytes of a safetensors header: about 100,000 tensors
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # not on Windows
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_CHUNK = 1 << 22  # bytes per write


def check_regular(path: Path) -> None:
    """Raises OSError where the path is a link, a FIFO, a folder, a device or absent."""
    _check_mode(path, path.lstat().st_mode)


def check_no_link(path: Path) -> None:
    """Raises OSError where the path is there and is neither a regular file nor a folder."""
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            _check_mode(path, mode)


def read_bytes(path: Path, *, limit: int = LARGEST_TEXT) -> bytes:
    """The contents of a regular file.

    Raises OSError where it is a link, a FIFO or a device, or has more than `limit` bytes.
    """
    check_regular(path)
    with os.fdopen(os.open(path, _READ | _NO_LINK), "rb") as file:
        status = os.fstat(file.fileno())
        _check_mode(path, status.st_mode)  # it may have been exchanged since
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"has more than {limit >> 20} MiB", str(path))
        return file.read(status.st_size)


def check_length(path: Path, limit: int = LARGEST_TEXT) -> None:
    """Raises OSError where a file that the user names has more bytes than memory should hold."""
    if path.stat().st_size > limit:
        raise OSError(errno.EFBIG, f"has more than {limit >> 20} MiB", str(path))


def read_text(path: Path, *, limit: int = LARGEST_TEXT) -> str:
    """The text of a regular file. Raises OSError as `read_bytes`; UnicodeDecodeError: not UTF-8."""
    return read_bytes(path, limit=limit).decode()


def read_json(path: Path, *, limit: int = LARGEST_TEXT) -> Any:
    """The value in a JSON file. Raises OSError as `read_bytes`; ValueError where it is no JSON."""
    return parse_json(read_text(path, limit=limit))


def read_json_object(path: Path, *, limit: int = LARGEST_TEXT) -> dict[str, Any]:
    """The object in a JSON file. Raises OSError or ValueError, also where it holds no object."""
    value = read_json(path, limit=limit)
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")  # of the file's text
    return value


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also where it is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def json_text(value: Any) -> str:
    """The value as JSON for people, in its own letters where UTF-8 has them all.

    A name from a file in another encoding may hold bytes that no letter stands for.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=2)
    return text


def check_tensor_file(path: Path) -> None:
    """Raises OSError or ValueError unless a regular file can be the safetensors that it is named.

    Its header is read, not its tensors: a file of zeros without end is refused at once.
    """
    check_regular(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= LARGEST_HEADER:
            raise ValueError(f"{path.name} is no safetensors file")
        header = parse_json(file.read(size).decode())
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    last = max((entry["data_offsets"][1] for entry in entries), default=0)
    if path.stat().st_size != 8 + size + last:
        raise ValueError(f"{path.name} is not as long as its header says")


def replace_file(path: Path, contents: str | bytes, *, flush: bool = False) -> None:
    """Write a file whole or not at all; a link of that name is replaced, not followed.

    `flush` has it on the disk before it has its name. Raises RunError, with a cure.
    """
    data = contents.encode(errors="backslashreplace") if isinstance(contents, str) else contents
    with draft_of(path) as draft:
        write_new(draft, data, flush=flush)


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A path beside `path`, which takes its place on leaving; deleted if an error leaves.

    Raises RunError, which names `path` and a cure, where the disk does not take the file.
    """
    draft = path.with_name(f".{path.stem}.{uuid4().hex[:12]}.new{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(draft), draft):
            raise unwritable(path, error) from error
        raise


def write_new(path: Path, data: bytes, *, flush: bool = False) -> None:
    """Write a file that does not exist yet. Raises OSError where anything has its name."""
    descriptor = os.open(path, _FRESH, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest[:_CHUNK]) :]
        if flush:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(path: Path) -> None:
    """Delete a file, a folder with its contents, or a link. No error where it fails."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"is {_kind(mode)} and no regular file", str(path))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")
