"""The command `thalweg`: its parser, its commands and its exit codes.

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
    "train": "Train a model on a folder of images, a table or arrays, and report on it.",
    "predict": "Classify images or predict numbers with a trained run.",
    "diagnose": "Say what is wrong with a run, what to change, and what was not checked.",
    "final": "Score a run on the test split, which stays hidden until then.",
    "report": "Write a run's report as one HTML file.",
    "spectrum": "Show and draw the curvature of the loss at a run's weights.",
    "landscape": "Draw the loss around a run's weights, or on the line to another run's.",
    "runs": "List the runs in a folder.",
    "cache": "Show the cache of decoded images, or clear it.",
    "demo": "Train on real scans, sabotage the run, diagnose both. A minute on two cores.",
    "ladder": "Train models from the simplest to the strongest; advise which one to keep.",
    "model": "Show a network's layers: shapes, weights, FLOPs, memory, receptive field.",
    "plan": "Time training steps in each precision; show the fastest that is exact enough.",
    "lr": "Run a learning-rate range test, and suggest a learning rate.",
    "rules": "List the rules of a diagnosis.",
    "explain": "Explain one rule: why it matters, when it is wrong, where it comes from.",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot encode must not end a training. Line by line, results
        # and progress stay in order where both go into one log.
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    sys.exit(_run_command(sys.argv[1:] if arguments is None else list(arguments)))


def build_app() -> App:
    """Build the parser; the module of a command is imported when the command is called."""
    app = App(
        name="thalweg",
        help="Trains neural networks, and knows why they don't train.",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=_default_text),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for number, (name, help_line) in enumerate(_COMMANDS.items()):
        app.command(f"thalweg.cli.{name}:{name}", name=name, help=help_line, sort_key=number)
    app.register_install_completion_command(help="Install completion for this shell.")
    return app


def _default_text(value: object) -> str | None:
    """The default as help shows it; None for False and None, which would be noise."""
    return None if value is None or value is False else str(value)


def _run_command(arguments: list[str]) -> int:
    """Run the command, print its error if it fails, and return the exit code."""
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
        return _print_error(error)
    return code if isinstance(code, int) else 0


def _print_error(error: ThalwegError | CycloptsError | OSError) -> int:
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
    """Replace warnings.showwarning: show our own warnings without the line that raised them."""
    if issubclass(category, ThalwegWarning):
        print(styled("note:", "yellow", sys.stderr), printable(str(message)), file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *place[:2]), end="", file=sys.stderr)
