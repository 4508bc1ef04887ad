"""The error tree: every error names the problem, what was seen, and the fix.

`exit_code` is the exit code of the command line when the error reaches it.
"""

from shlex import quote
from typing import ClassVar


class ThalwegError(Exception):
    """The base class: catches all errors of thalweg and no others."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, seen: str = "", fix: str = "") -> None:
        lines = [problem, seen and f"  seen: {seen}", fix and f"  fix:  {fix}"]
        super().__init__("\n".join(filter(None, lines)))
        self.problem, self.seen, self.fix = problem, seen, fix

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError, a base of one of ours, would print it quoted


class UsageError(ThalwegError, ValueError):
    """An option, a recipe key or a value is not valid."""

    exit_code = 2


class UnknownNameError(UsageError, KeyError):
    """A name is in none of the tables."""


class DataError(ThalwegError, ValueError):
    """The user's samples cannot be used as they are."""

    exit_code = 3


class TrainingError(ThalwegError, RuntimeError):
    """A run started and cannot continue; its earlier checkpoints are intact."""


class RunError(ThalwegError, OSError):
    """A run folder cannot be read, written or claimed."""


class NoRunError(RunError, UsageError):
    """A path is no run: nothing of the kind is there."""

    exit_code = 2


class MissingPackageError(ThalwegError):
    """A part needs a package that is not installed; the rest goes on without it."""


class TooLongError(ThalwegError):
    """A part needs more time than it has: about so many seconds, or more than it had."""

    def __init__(self, seconds: float, *, is_bound: bool = False) -> None:
        words = "takes more than" if is_bound else "needs about"
        super().__init__(f"{words} {max(1, round(seconds)):,} s")
        self.seconds = seconds


class ThalwegWarning(UserWarning):
    """The category of all warnings of thalweg, so that one filter silences or raises them."""


def shell_word(name: object) -> str:
    """A path or a name as a shell reads it, in a command to copy: quoted where it must be."""
    text = str(name)
    if text.isprintable():
        return quote(text)
    escaped = text.encode("unicode_escape").decode()
    return "$'" + escaped.replace("'", "\\'") + "'"


def printable(text: str, *, keep: str = "") -> str:
    """Escape control, bidirectional and undecodable characters, except those in `keep`.

    Why it matters: a file may be named `\\x1b[2J`, which would clear the reader's screen, or with
    characters that reverse the direction of a sentence.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )
