"""Survey a folder in a second process while this one imports PyTorch.

The import takes a second of one core, mostly with the interpreter lock held, so a thread would
hardly read a file. The second process is a plain interpreter without PyTorch that ends by itself
and prints nothing; if it fails, this process makes the survey itself and raises its own errors.
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

_PROGRAM = "from thalweg.data.images.survey_process import _print_survey; _print_survey()"
_processes: dict[tuple[str, str, str, int], "Popen[bytes]"] = {}


@contextmanager
def survey_in_background(
    path: str, *, target: str = "", group: str = "", size: int = 0
) -> Iterator[None]:
    """Run a process for `take_survey` inside this context; it ends with the context.

    No process starts if the path is no folder, PyTorch is loaded already, there is no second core,
    or torchrun started this process.
    """
    is_useful = "torch" not in sys.modules and "WORLD_SIZE" not in os.environ
    if not (is_useful and len(os.sched_getaffinity(0)) > 1 and path and Path(path).is_dir()):
        yield
        return
    key = (str(Path(path).absolute()), target, group, size)
    # -P: files in the current folder must not be imported as modules.
    command = [sys.executable, "-P", "-c", _PROGRAM, *map(str, key)]
    with Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL) as process:
        _processes[key] = process
        try:
            yield
        finally:
            _processes.pop(key, None)
            process.kill()


def take_survey(
    path: str, *, target: str, size: int, group: str = ""
) -> "tuple[Samples, Survey | None] | None":
    """Wait for the survey of this path, once; None if no process was started for it."""
    process = _processes.pop((path, target, group, size), None)
    if process is None:
        return None
    output, _ = process.communicate()
    return None if process.returncode else pickle.loads(output)


def _print_survey() -> None:
    """Make the survey that the arguments ask for and print it as a pickle."""
    from thalweg.data.images.file_survey import survey_path

    path, target, group, size = sys.argv[1:]
    survey = survey_path(Path(path), target=target, group=group, size=int(size))
    sys.stdout.buffer.write(pickle.dumps(survey, protocol=pickle.HIGHEST_PROTOCOL))
