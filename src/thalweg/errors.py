"""Every error this package raises on purpose: what is wrong, what was seen, what to do.

`exit_code` is what the command line ends with when the error reaches it.
"""

from typing import ClassVar


class ThalwegError(Exception):
    """Base class, so that a caller can catch all of ours and nothing else."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, seen: str = "", fix: str = "") -> None:
        parts = [problem, seen and f"  seen: {seen}", fix and f"  fix:  {fix}"]
        super().__init__("\n".join(filter(None, parts)))
        self.problem, self.seen, self.fix = problem, seen, fix

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError, a base of one of ours, would print it quoted


class UsageError(ThalwegError, ValueError):
    """An option, a recipe key or a value cannot be meant as it stands."""

    exit_code = 2


class UnknownNameError(UsageError, KeyError):
    """A name that is in no table of ours."""


class DataError(ThalwegError, ValueError):
    """The user's samples cannot be used as they are."""

    exit_code = 3


class TrainingError(ThalwegError, RuntimeError):
    """A run began and could not go on; what was saved before is intact."""


class RunError(ThalwegError, OSError):
    """A run folder cannot be read, written or claimed."""


class ThalwegWarning(UserWarning):
    """The category of every warning of ours, so that one filter silences or raises them all."""


def printable(text: str, *, keep: str = "") -> str:
    """The text with control, bidirectional and undecodable characters escaped, but those to `keep`.

    Why it matters: a file may be named `\\x1b[2J`, which would clear the reader's screen, or with
    what turns a sentence around.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )
