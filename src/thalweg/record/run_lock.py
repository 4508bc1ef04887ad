"""One writer a run: a lock that a dead process, or a dead machine, does not keep."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time

from thalweg.errors import RunError

LOCK = "run.lock"
HEARTBEAT = 10.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one, after which another machine's lock is taken over


class RunLock:
    """The right to write one run. Raises RunError when a living process has it.

    The lock says who holds it: pid, host, and when that process started, since pids are reused.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._pid = folder / LOCK, os.getpid()
        self._content = json.dumps(_me(), sort_keys=True)
        with _alone(folder):
            holder = live_holder(folder)
            if holder:
                raise RunError(
                    f"{folder} is being written by another process",
                    seen=f"process {holder['pid']} on {holder['host']}",
                    fix="wait until it ends, stop it, or start a new run",
                )
            self._path.write_text(self._content, encoding="utf-8")

    def beat(self) -> None:
        """Show another machine that this process lives."""
        with suppress(OSError):
            os.utime(self._path)

    def release(self) -> None:
        """Give it up, unless somebody has taken it over meanwhile, or this is a forked child."""
        with suppress(OSError):
            mine = self._path.read_text(encoding="utf-8") == self._content
            if mine and os.getpid() == self._pid:
                self._path.unlink()


def live_holder(folder: Path) -> dict[str, object]:
    """Who writes this run now: pid, host, started; empty when nobody does."""
    path = folder / LOCK
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        age = time() - path.stat().st_mtime
    except (OSError, ValueError):  # no lock, or one cut short by a full disk
        return {}
    if not isinstance(holder, dict) or not isinstance(holder.get("pid"), int):
        return {}
    if holder.get("host") != socket.gethostname():
        return holder if age < SILENCE else {}
    return holder if _started(holder["pid"]) == holder.get("started") else {}


def _me() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """When a process started: boot and clock ticks since; "" when there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # a system without /proc, or no such process
        return _alive(pid)
    dead = fields[0] in (b"Z", b"X")  # a zombie has ended; only its parent has not looked yet
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
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time looks at a lock and takes it. Without flock, as on some network
    disks, two that start within the same millisecond could both succeed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
