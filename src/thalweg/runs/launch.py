"""Launch one process a rank to train a run; this process shows their progress and their errors.

The processes exchange files in a temporary folder: `status.json` is the first rank's progress,
`error-1.json` the error that rank 1 ended with, `output-1.txt` its output, and `stop` the signal
that asks the ranks to end.
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
from thalweg.data.load import wait_for_decoding
from thalweg.distributed.ranks import LostRankError
from thalweg.distributed.torchrun_agent import run_ranks
from thalweg.errors import ThalwegError, TrainingError, shell_word
from thalweg.files import replace_file
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.runs.run import FailedRunError, InterruptedRunError, Run
from thalweg.training.interrupt import Interrupt

INTERVAL = 0.1  # s from one exchange of files to the next
OUTPUT_CHARACTERS = 400  # of a rank's last output that an error quotes
_PROGRAM = """
import os, sys
output = open(f"{sys.argv[2]}/output-{os.environ['RANK']}.txt", "wb")
os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
from thalweg.runs.rank_process import run_rank
run_rank()
"""
COUNTERS = ("phase", "samples", "step", "steps", "steps_per_epoch", "batch_size", "metric")


def launch_ranks(plan: Plan, folder: Path, progress: Progress) -> Run:
    """Train the plan in as many processes as it has devices.

    Raises: the first rank's error; TrainingError naming the rank that died.
    """
    wait_for_decoding(plan.dataset)  # so that the ranks find the whole cache
    progress.phase = "starting"
    with TemporaryDirectory(prefix="thalweg-") as name, Interrupt() as interrupt:
        job = Path(name)
        with repeat_in_background(lambda: _exchange(job, progress, interrupt)):
            exit_codes = run_ranks(
                [sys.executable, "-c", _PROGRAM, str(folder), str(job)],
                count=plan.recipe.devices,
                scratch=job / "agent",
            )
        _exchange(job, progress, interrupt)
        if interrupt.signal:
            raise InterruptedRunError(folder, interrupt.exit_code)
        if exit_codes:
            raise _first_error(job, exit_codes, folder)
    progress.phase = "done"
    return Run(folder)


def _exchange(job: Path, progress: Progress, interrupt: Interrupt) -> None:
    """Pass a signal on to the first rank, and show its progress."""
    if interrupt.signal and not (job / "stop").exists():
        replace_file(job / "stop", str(interrupt.signal))
    status = _read_json(job / "status.json")
    if not status:
        return
    for key in COUNTERS:
        counter = tuple(status[key]) if isinstance(status[key], list) else status[key]
        if counter != getattr(progress, key):  # an equal metric is no new epoch to the painter
            setattr(progress, key, counter)
    progress.loss = nan if status["loss"] is None else status["loss"]
    progress.run = Path(status["run"]) if status["run"] else None
    new = [message for message in status["messages"] if message not in progress.messages]
    progress.messages.extend(new)


@contextmanager
def repeat_in_background(action: Callable[[], None]) -> Iterator[None]:
    """Repeat the action in a thread while the block runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(INTERVAL):
            with suppress(OSError):  # the other side may be gone, or a disk full: the run goes on
                action()

    thread = threading.Thread(target=repeat, name="ranks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _first_error(job: Path, exit_codes: Mapping[int, int], folder: Path) -> ThalwegError:
    """The error that the other ranks' errors followed from."""
    endings = {rank: _read_json(job / f"error-{rank}.json") for rank in exit_codes}
    ending = endings.get(0, {})
    name = ending.get("kind", "")
    kind = FailedRunError if name == FailedRunError.__name__ else getattr(errors, name, None)
    if kind is None:
        return _lost_rank_error(job, exit_codes, endings=endings, folder=folder)
    error: ThalwegError = kind(ending["problem"], seen=ending["seen"], fix=ending["fix"])
    if isinstance(error, FailedRunError):
        error.path = folder
    return error


def _lost_rank_error(
    job: Path,
    exit_codes: Mapping[int, int],
    *,
    endings: Mapping[int, Mapping[str, Any]],
    folder: Path,
) -> TrainingError:
    """The error that names the rank that ended first."""

    def order(rank: int) -> tuple[bool, float]:
        is_terminated = exit_codes[rank] == -signal.SIGTERM
        is_consequence = endings[rank].get("kind") == LostRankError.__name__
        return is_terminated or is_consequence, endings[rank].get("time", 0.0)

    rank = min(exit_codes, key=order)
    ending = endings[rank]
    host = ending.get("host") or socket.gethostname()
    message = " ".join(filter(None, (ending.get("problem"), ending.get("seen"))))
    return TrainingError(
        f"rank {rank} on {host} {_exit_reason(exit_codes[rank])}, and with it the training ended",
        seen=message or _last_output(job, rank),
        fix=f"thalweg train --resume {shell_word(folder)} goes on from the last checkpoint",
    )


def _exit_reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL; a machine short of memory does so)"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed"


def _last_output(job: Path, rank: int) -> str:
    path = job / f"output-{rank}.txt"
    text = path.read_text(errors="replace") if path.exists() else ""
    return " ".join(text.split())[-OUTPUT_CHARACTERS:] or "it printed nothing"


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file; empty where there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content
