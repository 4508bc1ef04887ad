"""A folder is looked at by another process, while this one loads PyTorch.

That takes a second of one core, most of it with the interpreter held: a thread would hardly get to
read a file. The other process is a plain interpreter that loads no PyTorch, ends by itself, and
says nothing: whatever goes wrong in it, this one looks for itself, and has its own errors.
"""

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.data.images.file_survey import Survey
    from thalweg.data.samples import Samples

_LOOK = "from thalweg.data.images.survey_process import _answer; _answer()"
_sent: dict[tuple[str, str, int], "Popen[bytes]"] = {}


@contextmanager
def scouting(path: str, *, target: str = "", size: int = 0) -> Iterator[None]:
    """While the block runs, a process finds out what `report` will be asked for.

    None is started for what is no folder, where PyTorch is there already, where no second processor
    is, or in a process that torchrun started. None is left when the block ends.
    """
    is_wanted = "torch" not in sys.modules and "WORLD_SIZE" not in os.environ
    if not (is_wanted and len(os.sched_getaffinity(0)) > 1 and path and Path(path).is_dir()):
        yield
        return
    question = (str(Path(path).absolute()), target, size)
    # -P: what lies in the folder of the moment is no module of ours.
    command = [sys.executable, "-P", "-c", _LOOK, *map(str, question)]
    with Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL) as process:
        _sent[question] = process
        try:
            yield
        finally:
            _sent.pop(question, None)
            process.kill()


def report(path: str, *, target: str, size: int) -> "tuple[Samples, Survey | None] | None":
    """What was found, once: `survey.surveyed` of the same; None where nobody was sent for it."""
    process = _sent.pop((path, target, size), None)
    if process is None:
        return None
    found, _ = process.communicate()
    return None if process.returncode else pickle.loads(found)


def _answer() -> None:
    """What the other process does: its arguments in, a pickle out."""
    from thalweg.data.images.file_survey import surveyed

    path, target, size = sys.argv[1:]
    found = surveyed(Path(path), target=target, size=int(size))
    sys.stdout.buffer.write(pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL))
