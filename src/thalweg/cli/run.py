"""`thalweg run SCRIPT`: run anybody's training script, watched, and diagnose it at its end."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from thalweg.cli.terminal import is_terminal, uses_color
from thalweg.errors import printable

if TYPE_CHECKING:
    from thalweg.adapters.script.program import ProgramRun, WatchedTraining
    from thalweg.diagnosis import Diagnosis

FailOn = Literal["error", "warning", "never"]
HAS_FINDING = 4  # exit code: a finding at or above --fail-on
_WITH_VALUE = ("--out", "--fail-on")
_ERASE = "\r\x1b[2K"


def run(
    *command: str,
    out: Path = Path("runs"),
    fail_on: FailOn = "never",
    no_report: bool = False,
    quiet: bool = False,
) -> Callable[[], NoReturn]:
    """Run a training script as `python` does, watched, and diagnose it at its end.

    The script's output, exit code and weights are those of `python SCRIPT`. What thalweg says goes
    to stderr. Options stand before the script; what follows it is the script's own.

    Parameters
    ----------
    command: str
        A script and its arguments; or -m, a module and its arguments.
    out: Path
        Folder in which a folder for each training is created, with its report.
    fail_on: str
        Exit with 4 if the script succeeds and a finding is this severe or worse.
    no_report: bool
        Write nothing: neither a run's folder nor its report.
    quiet: bool
        Print only the verdict of each training, and where its report is.
    """
    from thalweg.adapters.script.main_module import check_program

    check_program(command)
    return lambda: _run(command, None if no_report else out, fail_on, quiet=quiet)


def separate_program(arguments: Sequence[str]) -> list[str]:
    """Put `--` before the script, so that all that follows is the script's own."""
    number = 1
    while number < len(arguments) and arguments[number].startswith("-"):
        if arguments[number] in ("-m", "--"):
            break
        number += 2 if arguments[number] in _WITH_VALUE else 1
    rest = list(arguments[number:])
    return [*arguments[:number], *(["--"] if rest and rest[0] != "--" else []), *rest]


def _run(command: Sequence[str], out: Path | None, fail_on: FailOn, *, quiet: bool) -> NoReturn:
    from thalweg.adapters.script.main_module import leave
    from thalweg.adapters.script.program import run_program

    ended = run_program(command, out=out, say=_say)
    with suppress(OSError, ValueError):  # stderr is closed; the exit code remains
        _print_end(ended, quiet=quiet)
    fails = ended.succeeded and any(_has(t.diagnosis, fail_on) for t in ended.trainings)
    leave(None if fails else ended.error, HAS_FINDING if fails else 0)


def _print_end(ended: "ProgramRun", *, quiet: bool) -> None:
    """Print the diagnosis of each training, and the notes, on stderr."""
    if sys.stdout is not None:
        sys.stdout.flush()
    for training in ended.trainings:
        _say("" if quiet else f"\n{_page(training)}")
        if quiet:
            _say(f"thalweg: {printable(training.name)}: {training.diagnosis.verdict}")
        if training.run is not None:
            _say(f"\nreport   {printable(str(_short(training.run.path / 'report.html')))}")
    for note in ended.notes:
        _say(f"thalweg: {printable(note)}")


def _page(training: "WatchedTraining") -> str:
    """The page that `thalweg diagnose` prints of a run; the diagnosis alone where none was made."""
    from thalweg.report import render_text

    if training.run is None:
        return f"{training.name}\n{training.diagnosis}"
    stream = sys.stderr
    return render_text(
        training.run, training.diagnosis, color=stream is not None and uses_color(stream)
    )


def _short(path: Path) -> Path:
    """The path from the current folder, where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _say(line: str) -> None:
    """Write a line to stderr, in place of a progress bar that the script may have there."""
    stream = sys.stderr
    if stream is not None:
        stream.write(f"{_ERASE if is_terminal(stream) else ''}{line}\n")
        stream.flush()


def _has(diagnosis: "Diagnosis", severity: FailOn) -> bool:
    severe = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[severity]
    return any(finding.severity in severe for finding in diagnosis.findings)
