"""Bridge the differences of operating systems: locks of open files, the user's name and home."""

import os
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock_file(descriptor: int, *, wait: bool) -> bool | None:
    """Lock an open file until it is closed, or its process dies.

    Returns whether this process has the lock; None where the system or the disk has no locks, as
    some network disks and Windows.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # ENOLCK, ENOSYS or EOPNOTSUPP
        return None
    return True


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; systems that cannot open a folder do so themselves."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        if fcntl is None:  # Windows opens no folder
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def user_id() -> str:
    """The number of the user; where users have none, their name."""
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def home() -> Path:
    """The user's folder; the temporary one where the user has none, as some in containers."""
    try:
        return Path.home()
    except RuntimeError:  # neither $HOME nor an entry in the table of users
        return Path(tempfile.gettempdir())
