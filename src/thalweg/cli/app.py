"""The command `thalweg`: its parser, its commands and its exit codes.

0 done · 1 the run failed · 2 usage · 3 data unusable, or nothing could be checked ·
4 a finding at or above --fail-on · 130 interrupted · 143 terminated. Results go to stdout;
progress and errors to stderr.
"""

import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter, UnknownOptionError

from thalweg import __version__
from thalweg.cli.check_words import check_words
from thalweg.cli.terminal import error_text, styled
from thalweg.errors import ThalwegError, ThalwegWarning, UsageError, printable
from thalweg.paths import unusable
from thalweg.recipes.old_names import OLD_NAMES

_GROUPS = {
    "Start here": {
        "demo": "Train on real scans, sabotage the run, diagnose both. A minute on two cores.",
        "train": "Train a model on images, a table, arrays or a text, and report on it.",
        "generate": "Write text with a run that was trained on a text.",
        "forecast": "Forecast the next steps of series with a run that was trained on them.",
        "predict": "Classify images or predict numbers with a trained run.",
        "run": "Run anybody's training script, watched; say what is wrong while and after it runs.",
        "diagnose": "Say what is wrong with a run, what to change, and what was not checked.",
        "ladder": "Train models from the simplest to the strongest; advise which one to keep.",
        "report": "Write a run's report as one HTML file.",
        "final": "Score a run on the test split, which stays hidden until then.",
    },
    "Look closer": {
        "runs": "List the runs in a folder.",
        "lr": "Run a learning-rate range test, and suggest a learning rate.",
        "spectrum": "Say if a run's weights are a minimum or a saddle, sharp or flat.",
        "landscape": "Draw the loss around a run's weights, or on the line to another run's.",
        "model": "Show a network's layers: shapes, weights, FLOPs, memory, receptive field.",
        "rules": "List the rules of a diagnosis.",
        "explain": "Explain one rule: why it matters, when it is wrong, where it comes from.",
    },
    "This machine": {
        "plan": "Time training steps in each precision; show the fastest that is exact enough.",
        "cache": "Show the cache of decoded images, or clear it.",
    },
}
_COMMANDS = {name: text for commands in _GROUPS.values() for name, text in commands.items()}


# Options whose short name is the first part of the long one: see `_with_short_names`.
SHORT_NAMES = {
    "--model.name": "--model",
    "--task.name": "--task",
    "--transfer.method": "--transfer",
}


# Options that are no recipe keys, by other programs' names for them.
OTHER_NAMES_OF_OPTIONS = {
    **dict.fromkeys(("output", "outdir", "outputdir", "savedir", "logdir", "project"), "--out"),
    **dict.fromkeys(("continue", "resumefrom", "checkpoint", "ckpt", "restart"), "--resume"),
    **dict.fromkeys(("kfold", "kfolds", "cv", "nfolds", "numfolds", "crossvalidate"), "--folds"),
    **dict.fromkeys(("cfg", "configfile", "recipe", "params"), "--config"),
    **dict.fromkeys(("budget", "time", "timelimit", "maxtime", "minute"), "--minutes"),
    **dict.fromkeys(("dry", "simulate", "plan"), "--dry-run"),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        _run_script(words)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot encode must not end a training. Line by line, results
        # and progress stay in order where both go into one log.
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    code = _run_command(words)
    assert not callable(code), "only `run` returns what is to be run"
    sys.exit(code)


class _DroppedOutput(TextIOWrapper):
    """Stands for a closed standard output; remembers whether results were dropped."""

    has_dropped = False

    def write(self, text: str, /) -> int:
        self.has_dropped = True
        return super().write(text)


def _open_closed_streams() -> None:
    """Stand in for closed standard streams, as some schedulers start a program.

    Progress is dropped; that results are dropped is an error at the end.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stdout is None:
        sys.stdout = _DroppedOutput(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _no_output(reason: str) -> ThalwegError:
    """The error where results could not be printed: as of `cat` and `ls`, and exit code 1."""
    return ThalwegError(
        "the results could not be printed",
        seen=f"standard output: {reason}",
        fix="send it to a file that can be written: > FILE; or drop it: > /dev/null",
    )


def _run_script(words: list[str]) -> NoReturn:
    """Run somebody's script: its streams, its warnings and its exceptions are its own."""
    from thalweg.cli.run import separate_program

    outcome = _run_command(separate_program(words))
    sys.exit(outcome() if callable(outcome) else outcome)


def build_app() -> App:
    """Build the parser; the module of a command is imported when the command is called."""
    app = App(
        name="thalweg",
        help="Trains neural networks, and knows why they don't train.",
        version=__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=_default_text),
        config=check_words,
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
        group_commands=Group("Help", sort_key=len(_GROUPS)),
        group_parameters=Group("Options", sort_key=2),
    )
    for place, (title, commands) in enumerate(_GROUPS.items()):
        group = Group(title, sort_key=place)
        for number, (name, text) in enumerate(commands.items()):
            where = f"thalweg.cli.{name}:{name}"
            app.command(where, name=name, help=text, sort_key=number, group=group)
    app.register_install_completion_command(help="Install completion for this shell.")
    return app


def _default_text(value: object) -> str | None:
    """The default as help shows it; None for False and None, which would be noise."""
    return None if value is None or value is False else str(value)


def _run_command(arguments: list[str]) -> int | Callable[[], NoReturn]:
    """Run the command, print its error if it fails, and return the exit code.

    Of `run` return what runs the script, outside of all handling of errors here.
    """
    try:
        code = build_app()(_with_short_names(arguments))
        sys.stdout.flush()
        if isinstance(sys.stdout, _DroppedOutput) and sys.stdout.has_dropped:
            raise _no_output("it is closed")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python flushes again
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ThalwegError, CycloptsError, OSError) as error:
        return _print_error(error)
    return code if isinstance(code, int) or callable(code) else 0


def _with_short_names(words: Sequence[str]) -> list[str]:
    """Replace the long names that the parser takes for a part of the short one."""
    pairs = [word.partition("=") for word in words]
    return ["".join((SHORT_NAMES.get(name, name), mark, value)) for name, mark, value in pairs]


def _print_error(error: ThalwegError | CycloptsError | OSError) -> int:
    """Print problem, seen and fix; return the exit code."""
    if isinstance(error, CycloptsError):
        error = _usage_error(error)
    if not isinstance(error, ThalwegError):
        # What is printed has no file name; all that is opened has one.
        error = unusable(error) if error.filename else _no_output(error.strerror or str(error))
    print(error_text(error), file=sys.stderr)
    return error.exit_code


def _usage_error(error: CycloptsError) -> UsageError:
    option = ""
    if isinstance(error, UnknownOptionError):
        option = str(error.token.keyword or error.token.value).partition("=")[0]
    for old, new in OLD_NAMES.items():
        if f"{option}.".startswith(f"--{old}."):
            return UsageError(f"--{old} has a new name", seen=option, fix=f"--{new}")
    if option and Path(option).exists():
        return UsageError(f"{option} is taken for an option", fix=f"write ./{option}")
    if suggestion := _option_meant(error):
        return UsageError(f"Unknown option: {option}.", fix=f"did you mean {suggestion}?")
    problem, _, suggestion = str(error).partition(" Did you mean ")
    command = " ".join(["thalweg", *(error.command_chain or ())])
    return UsageError(
        problem, fix=f"did you mean {suggestion}" if suggestion else f"see `{command} --help`"
    )


def _option_meant(error: CycloptsError) -> str:
    """The option of the command that an unknown one means, by its meaning; "" for none."""
    if not isinstance(error, UnknownOptionError):
        return ""
    from thalweg.cli.recipe_options import option as option_of  # only now: --help starts at once
    from thalweg.recipes.recipe import KEYS
    from thalweg.recipes.similar_keys import similar_keys

    word = str(error.token.keyword or error.token.value).lstrip("-").partition("=")[0]
    options = {name for argument in error.argument_collection for name in argument.names}
    plain = re.sub(r"[^a-z0-9]", "", word.lower())
    if (own := OTHER_NAMES_OF_OPTIONS.get(plain)) in options:
        return str(own)
    for key in similar_keys(word, KEYS):
        for option in (f"--{key}" if "." in word else option_of(key), option_of(key)):
            if option in options:
                return option
    return ""


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Replace warnings.showwarning: show our own warnings without the line that raised them."""
    if issubclass(category, ThalwegWarning):
        print(styled("note:", "yellow", sys.stderr), printable(str(message)), file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *place[:2]), end="", file=sys.stderr)
