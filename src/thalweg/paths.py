"""Check the paths that a user names, and explain why a file cannot be written."""

import errno
import os
import re
from pathlib import Path

from thalweg.errors import RunError, ThalwegError, UsageError, shell_word

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://|(https?|ftp|s3|gs|hf):/", re.IGNORECASE)  # as a Path
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def as_path(value: object, *, role: str) -> Path:
    """The path of a run, a file or a folder that a caller named; `role` says which.

    Raises: UsageError for another type, and as `check_path`.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UsageError(
            f"{role} is named by a path",
            seen=f"{type(value).__name__}: {repr(value)[:80]}",
            fix='a text or a pathlib.Path, such as "runs/flowers-1"',
        )
    check_path(os.fspath(value), role=role)
    return Path(value)


def check_path(text: str, *, role: str) -> None:
    """Raise UsageError for a text that is no path here: empty, a URL, or with a NUL character."""
    if not text:
        raise UsageError(
            f"{role} is an empty text, which names nothing",
            seen="''",
            fix="name it, or . for the current folder",
        )
    if "\0" in text:
        raise UsageError(
            f"{role} has a NUL character in it", seen=repr(text)[:80], fix="a path without one"
        )
    try:
        os.lstat(text)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            seen = f"{text[:40]}… ({len(text):,} characters)"
            raise UsageError(
                f"{role} is too long for a path", seen=seen, fix="a shorter one"
            ) from error
    if (scheme := _URL.match(text)) and not os.path.lexists(text):
        raise _web_address(text, (scheme[1] or scheme[2]).lower(), role=role)


def _web_address(text: str, scheme: str, *, role: str) -> UsageError:
    """The error for a web address, with the slash that a `Path` has dropped."""
    rest = text[len(scheme) + 1 :].lstrip("/")
    if scheme == "file":
        return UsageError(
            f"{role} is an address, not a path", seen=text, fix=f"name the file: /{rest}"
        )
    url = f"{scheme}://{rest}"
    by = f", as by: curl -LO {shell_word(url)}" if scheme in ("http", "https", "ftp") else ""
    return UsageError(
        f"{role} is a web address, and thalweg downloads nothing",
        seen=url,
        fix=f"download it first{by}; then name the file",
    )


def unwritable(path: Path, error: OSError, *, instead: str = "") -> RunError:
    """The error that says why `path` could not be written, and a cure that fits the cause.

    `instead` is another way for the user to get what the file holds. It keeps the error's number.
    """
    folder = path.absolute().parent
    seen, cure = error.strerror or str(error), "write to another place"
    if path.is_dir():
        own, other = shell_word(path), shell_word(f"{path}.old")
        seen, cure = f"{path} is a folder", f"move it away: mv {own} {other}"
    elif error.errno in _NOT_ALLOWED:
        place = folder if not os.access(folder, os.W_OK) else path
        seen, cure = f"{place} may not be written by this user", f"chmod u+w {shell_word(place)}"
    elif error.errno == errno.EROFS:
        seen, cure = "its disk is read-only", "write to another disk, such as a copy"
    elif error.errno in _FULL:
        cure = "free some space"
    elif not folder.is_dir():
        seen, cure = f"there is no folder {folder}", f"mkdir -p {shell_word(folder)}"
    fix = f"{cure}; or {instead}" if instead else cure
    explained = RunError(f"{path} could not be written", seen=seen, fix=fix)
    explained.errno, explained.strerror = error.errno, error.strerror
    return explained


def check_writable_run(folder: Path) -> None:
    """Raise RunError for a run that this user may not write, before anything is done for it."""
    names = ("", "run.db", "checkpoints")
    for path in (folder / name for name in names):
        if os.path.lexists(path) and not os.access(path, os.W_OK):
            own, copy = shell_word(folder), shell_word(f"{folder.name}-copy")
            raise RunError(
                f"{folder} cannot be resumed, since it may not be written",
                seen=f"{path} is read-only for this user",
                fix=f"chmod -R u+w {own}; or resume a copy: "
                f"cp -r {own} {copy}, chmod -R u+w {copy}",
            )


def unusable(error: OSError) -> ThalwegError:
    """An error of the system as one with a cure, for a file that was to be read or written."""
    path, reason = error.filename2 or error.filename or "", error.strerror or str(error)
    cures = {
        **dict.fromkeys(_NOT_ALLOWED, f"chmod u+rw {shell_word(path)}, or ask its owner"),
        **dict.fromkeys(_FULL, "free some space"),
        errno.EROFS: "write to another disk, such as a copy",
        errno.EISDIR: "name a file in it, or another file",
        errno.ENAMETOOLONG: "a shorter name",
        errno.ELOOP: "name the file that the link means",
    }
    fix = cures.get(error.errno or 0, "check that the path exists and may be used")
    problem = f"{path} cannot be used" if path else "a file cannot be used"
    return ThalwegError(problem, seen=reason, fix=fix)
