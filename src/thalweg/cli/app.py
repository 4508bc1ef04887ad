"""The command `thalweg`: which word calls what, and what each ending exits with.

0 done · 1 the run failed · 2 usage · 3 data unusable · 4 a finding at or above --fail-on ·
130 interrupted · 143 terminated. Results go to stdout; progress and errors to stderr.
"""

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError

from thalweg import __version__
from thalweg.cli.terminal import error_text, styled
from thalweg.errors import ThalwegError, ThalwegWarning, UsageError, printable
from thalweg.recipes.old_names import OLD_NAMES

_COMMANDS = {
    "train": "Train a model on a folder of images, a table or arrays; report what was learnt.",
    "predict": "Classify images, or predict values, with a trained run.",
    "diagnose": "Say what is wrong with a run, what to change, and what was not checked.",
    "final": "Open the test split, hidden until now: score a run on it, once.",
    "report": "Write a run's report as one HTML file.",
    "spectrum": "Show the curvature of the loss at a run's weights, and draw it.",
    "landscape": "Draw the loss around a run's weights, or on the way to another run's.",
    "runs": "List the runs of a folder.",
    "cache": "Show the cache of decoded images, or clear it.",
    "demo": "Train on real scans, sabotage the run, diagnose both. A minute on two cores.",
    "ladder": "Climb from the simplest model to the strongest; say what that tells of the data.",
    "model": "Show a network's layers: shapes, weights, FLOPs, memory, receptive field.",
    "plan": "Time a training's steps in each precision; show what is fastest and exact enough.",
    "lr": "Try rising learning rates on a copy, and suggest one.",
    "rules": "List the rules that a diagnosis consists of.",
    "explain": "Explain one rule: why it matters, when it is wrong, where it comes from.",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal's encoding lacks must not end a training run; and what is
        # said must not overtake the progress where both go into one log.
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else list(arguments)))


def build_app() -> App:
    """The parser; a command's module is imported when the command is called, not before."""
    app = App(
        name="thalweg",
        help="Trains neural networks, and knows why they don't train.",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for number, (name, help_line) in enumerate(_COMMANDS.items()):
        app.command(f"thalweg.cli.{name}:{name}", name=name, help=help_line, sort_key=number)
    app.register_install_completion_command(help="Install completion for this shell.")
    return app


def _shown_default(value: object) -> str | None:
    """None for what is off, or not there, unless it is given: to say so of each would be noise."""
    return None if value is None or value is False else str(value)


def _exit_code(arguments: list[str]) -> int:
    try:
        code = build_app()(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python flushes again
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ThalwegError, CycloptsError, OSError) as error:
        return _explain(error)
    return code if isinstance(code, int) else 0


def _explain(error: ThalwegError | CycloptsError | OSError) -> int:
    """Print problem, seen and fix; return the exit code."""
    if isinstance(error, CycloptsError):
        error = _usage_error(error)
    if not isinstance(error, ThalwegError):
        error = ThalwegError(str(error), fix="check that the path exists and may be used")
    print(error_text(error), file=sys.stderr)
    return error.exit_code


def _usage_error(error: CycloptsError) -> UsageError:
    option = str(error.token.keyword) if isinstance(error, UnknownOptionError) else ""
    for old, new in OLD_NAMES.items():
        if f"{option}.".startswith(f"--{old}."):
            return UsageError(f"--{old} has a new name", seen=option, fix=f"--{new}")
    problem, _, suggestion = str(error).partition(" Did you mean ")
    command = " ".join(["thalweg", *(error.command_chain or ())])
    return UsageError(
        problem, fix=f"did you mean {suggestion}" if suggestion else f"see `{command} --help`"
    )


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """In the place of warnings.showwarning: one of ours without the line that raised it."""
    if issubclass(category, ThalwegWarning):
        print(styled("note:", "yellow", sys.stderr), printable(str(message)), file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *place[:2]), end="", file=sys.stderr)
