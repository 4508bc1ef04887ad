"""The process of one rank: it trains, and tells the launcher how far it is."""

import json
import os
import socket
import sys
import threading
import traceback
from pathlib import Path
from time import time

from thalweg.errors import ThalwegError
from thalweg.planning.progress import Progress
from thalweg.runs.launch import COUNTERS, repeatedly
from thalweg.runs.run import InterruptedRunError, replace_text
from thalweg.runs.start import resume


def run_rank() -> None:
    """Resume the run as one of its ranks. Arguments: the run's folder and the folder to meet in."""
    folder, job, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
    progress, parent, heard = Progress(), os.getppid(), threading.Event()

    def look() -> None:
        if os.getppid() != parent:
            os._exit(1)  # nobody is there to work for
        if rank == 0:
            _tell(job, progress)
            _obey(job, heard)

    with repeatedly(look):
        try:
            resume(folder, progress=progress)
        except (InterruptedRunError, KeyboardInterrupt):
            pass  # as was asked for: whoever did so knows
        except BaseException as error:
            replace_text(job / f"ending-{rank}.json", json.dumps(_ending(error)))
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # no leave is taken of a group that may wait for a rank that is gone
    if rank == 0:
        _tell(job, progress)


def _tell(job: Path, progress: Progress) -> None:
    """Say how far this rank is."""
    loss = float(progress.loss)
    said = {key: getattr(progress, key) for key in COUNTERS}
    said |= {
        "loss": loss if loss == loss else None,
        "run": str(progress.run or ""),
        "messages": list(progress.messages),
    }
    replace_text(job / "status.json", json.dumps(said))


def _obey(job: Path, heard: threading.Event) -> None:
    """Pass the signal that was asked for on to this process, once."""
    asked = job / "stop"
    if not heard.is_set() and asked.exists():
        heard.set()
        os.kill(os.getpid(), int(asked.read_text()))


def _ending(error: BaseException) -> dict[str, object]:
    said = {"kind": type(error).__name__, "host": socket.gethostname(), "time": time()}
    if isinstance(error, ThalwegError):
        return said | {"problem": error.problem, "seen": error.seen, "fix": error.fix}
    text = " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in place)
    return said | {"problem": f"{said['kind']}: {text}", "seen": where.strip(), "fix": ""}
