"""The streams that text is shown on: a terminal, a notebook, a log."""

import os
import sys
from typing import Protocol, runtime_checkable


@runtime_checkable
class Stream(Protocol):
    """The part of a text file that printing needs."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


def is_terminal(stream: Stream) -> bool:
    """Return whether a line can be erased and written again there."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_notebook() -> bool:
    """Return whether this process answers a notebook, whose cells overwrite a line as well."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
