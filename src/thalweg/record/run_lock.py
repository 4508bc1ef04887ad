"""Lock a run for its one writer; a dead process or machine loses the lock."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time

from thalweg.errors import RunError
from thalweg.files import read_json, read_text, replace_file
from thalweg.portable import lock_file

LOCK = "run.lock"
HEARTBEAT = 10.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one, after which another machine's lock is void


class RunLock:
    """The right to write one run. Raises RunError where a living process holds it.

    The lock names its holder: pid, host and start of the process, since pids are reused.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._pid = folder / LOCK, os.getpid()
        self._content = json.dumps(_this_process(), sort_keys=True)
        with _exclusive(folder):
            holder = live_holder(folder)
            if holder:
                raise RunError(
                    f"{folder} is being written by another process",
                    seen=f"process {holder['pid']} on {holder['host']}",
                    fix="wait until it ends, stop it, or start a new run",
                )
            replace_file(self._path, self._content)

    def beat(self) -> None:
        """Show other machines that this process lives."""
        with suppress(OSError):
            os.utime(self._path, follow_symlinks=False)

    def release(self) -> None:
        """Remove the lock, unless another process took it over, or this is a forked child."""
        with suppress(OSError):
            mine = read_text(self._path) == self._content
            if mine and os.getpid() == self._pid:
                self._path.unlink()


def live_holder(folder: Path) -> dict[str, object]:
    """The process that writes this run now: pid, host, started; empty for none."""
    path = folder / LOCK
    try:
        holder = read_json(path)
        age = time() - path.stat().st_mtime
    except (OSError, ValueError):  # no lock, or one cut short by a full disk
        return {}
    if not isinstance(holder, dict) or not isinstance(holder.get("pid"), int):
        return {}
    if holder.get("host") != socket.gethostname():
        return holder if age < SILENCE else {}
    return holder if _start_time(holder["pid"]) == holder.get("started") else {}


def _this_process() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _start_time(os.getpid())}


def _start_time(pid: int) -> str:
    """The start of a process: boot and clock ticks since; "" where there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # a system without /proc, or no such process
        return _alive(pid)
    dead = fields[0] in (b"Z", b"X")  # a zombie has ended; its parent has not waited for it yet
    return "" if dead else f"{boot} {fields[19].decode()}"


def _alive(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "alive"
    except OSError:
        return ""
    return "alive"


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time read and take the lock. Where there are no locks of files, as on
    some network disks, two that start within the same millisecond could both succeed."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder
        yield
        return
    try:
        lock_file(handle, wait=True)
        yield
    finally:
        os.close(handle)
