"""A run that is trained by ranks started for it: they work, and this process speaks for them.

They meet in a folder: `status.json` is what the first rank has come to, `ending-1.json` how rank 1
ended, `said-1.txt` what it printed, and `stop` asks them to end.
"""

import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thalweg import errors
from thalweg.data.load import finished
from thalweg.distributed.ranks import LostRankError
from thalweg.distributed.torchrun_agent import run_ranks
from thalweg.errors import ThalwegError, TrainingError
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.runs.run import FailedRunError, InterruptedRunError, Run, replace_text
from thalweg.training.interrupt import Interrupt

INTERVAL = 0.1  # s between two looks at what the other side says
LAST_WORDS = 400  # characters of what a rank printed that are quoted
_PROGRAM = """
import os, sys
said = open(f"{sys.argv[2]}/said-{os.environ['RANK']}.txt", "wb")
os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
from thalweg.runs.rank_process import run_rank
run_rank()
"""
COUNTERS = ("phase", "samples", "step", "steps", "steps_per_epoch", "batch_size", "metric")


def launch_ranks(plan: Plan, folder: Path, progress: Progress) -> Run:
    """Carry out the plan in processes of its own, as many as it has devices.

    Raises: what the first rank raises; TrainingError naming the rank that died.
    """
    finished(plan.dataset)  # so that the ranks find the cache whole
    progress.phase = "starting"
    with TemporaryDirectory(prefix="thalweg-") as name, Interrupt() as interrupt:
        job = Path(name)
        with repeatedly(lambda: _listen(job, progress, interrupt)):
            codes = run_ranks(
                [sys.executable, "-c", _PROGRAM, str(folder), str(job)],
                count=plan.recipe.devices,
                scratch=job / "agent",
            )
        _listen(job, progress, interrupt)
        if interrupt.signal:
            raise InterruptedRunError(folder, interrupt.exit_code)
        if codes:
            raise _root(job, codes, folder)
    progress.phase = "done"
    return Run(folder)


def _listen(job: Path, progress: Progress, interrupt: Interrupt) -> None:
    """Tell the first rank of a signal; learn how far it is."""
    if interrupt.signal and not (job / "stop").exists():
        replace_text(job / "stop", str(interrupt.signal))
    said = _read(job / "status.json")
    for key in COUNTERS if said else ():
        value = said[key]
        if tuple(value if isinstance(value, list) else [value]) != getattr(progress, key):
            setattr(progress, key, tuple(value) if isinstance(value, list) else value)
    if said:
        progress.loss = nan if said["loss"] is None else said["loss"]
        progress.run = Path(said["run"]) if said["run"] else None
        fresh = [text for text in said["messages"] if text not in progress.messages]
        progress.messages.extend(fresh)


@contextmanager
def repeatedly(look: Callable[[], None]) -> Iterator[None]:
    """Look again and again, beside what is done inside."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(INTERVAL):
            with suppress(OSError):  # the other side may be gone, or a disk full: the run goes on
                look()

    thread = threading.Thread(target=repeat, name="ranks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _root(job: Path, codes: Mapping[int, int], folder: Path) -> ThalwegError:
    """The error that the others followed from."""
    said = {rank: _read(job / f"ending-{rank}.json") for rank in codes}
    first = said.get(0, {})
    known = FailedRunError if first.get("kind") == FailedRunError.__name__ else None
    known = known or getattr(errors, first.get("kind", ""), None)
    if known is None:
        return _death(job, codes, said=said, folder=folder)
    error: ThalwegError = known(first["problem"], seen=first["seen"], fix=first["fix"])
    if isinstance(error, FailedRunError):
        error.path = folder
    return error


def _death(
    job: Path, codes: Mapping[int, int], *, said: Mapping[int, Mapping[str, Any]], folder: Path
) -> TrainingError:
    """The error that names the rank that went first."""

    def order(rank: int) -> tuple[bool, float]:
        told = said[rank]
        followed = codes[rank] == -signal.SIGTERM or told.get("kind") == LostRankError.__name__
        return followed, told.get("time", 0.0)

    rank = min(codes, key=order)
    told, host = said[rank], said[rank].get("host") or socket.gethostname()
    words = " ".join(filter(None, (told.get("problem"), told.get("seen"))))
    return TrainingError(
        f"rank {rank} on {host} {_manner(codes[rank])}, and with it the training ended",
        seen=words or _last_words(job, rank),
        fix=f"thalweg train --resume {folder} goes on from the last checkpoint",
    )


def _manner(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL; a machine short of memory does so)"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed"


def _last_words(job: Path, rank: int) -> str:
    """The end of what the rank printed."""
    path = job / f"said-{rank}.txt"
    text = path.read_text(errors="replace") if path.exists() else ""
    return " ".join(text.split())[-LAST_WORDS:] or "it said nothing"


def _read(path: Path) -> dict[str, Any]:
    """The JSON object there; empty where there is none."""
    try:
        said: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return said
