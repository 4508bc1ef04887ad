"""The process of one launched rank: it trains, and exchanges files with the launcher."""

import json
import os
import socket
import sys
import threading
import traceback
from pathlib import Path
from time import time

from thalweg.errors import ThalwegError
from thalweg.files import replace_file
from thalweg.planning.progress import Progress
from thalweg.runs.launch import COUNTERS, repeat_in_background
from thalweg.runs.run import InterruptedRunError
from thalweg.runs.start import resume


def run_rank() -> None:
    """Resume the run in sys.argv[1] as a rank; sys.argv[2] is the folder of exchanged files."""
    folder, job, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
    progress, launcher, stopped = Progress(), os.getppid(), threading.Event()

    def exchange() -> None:
        if os.getppid() != launcher:
            os._exit(1)  # the launcher has died
        if rank == 0:
            _write_status(job, progress)
            _raise_signal(job, stopped)

    with repeat_in_background(exchange):
        try:
            resume(folder, progress=progress)
        except (InterruptedRunError, KeyboardInterrupt):
            pass  # the launcher has passed the signal on, and knows
        except BaseException as error:
            replace_file(job / f"error-{rank}.json", json.dumps(_ending(error)))
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # leaving the process group could wait for a rank that is gone
    if rank == 0:
        _write_status(job, progress)


def _write_status(job: Path, progress: Progress) -> None:
    loss = float(progress.loss)
    status = {key: getattr(progress, key) for key in COUNTERS}
    status |= {
        "loss": loss if loss == loss else None,
        "run": str(progress.run or ""),
        "messages": list(progress.messages),
    }
    replace_file(job / "status.json", json.dumps(status))


def _raise_signal(job: Path, stopped: threading.Event) -> None:
    """Raise the signal that the launcher passes on, once."""
    request = job / "stop"
    if not stopped.is_set() and request.exists():
        stopped.set()
        os.kill(os.getpid(), int(request.read_text()))


def _ending(error: BaseException) -> dict[str, object]:
    """The error as JSON, with the host and the time."""
    kind = type(error).__name__
    ending = {"kind": kind, "host": socket.gethostname(), "time": time()}
    if isinstance(error, ThalwegError):
        return ending | {"problem": error.problem, "seen": error.seen, "fix": error.fix}
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f"at {Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return ending | {"problem": f"{kind}: {text}", "seen": place, "fix": ""}
