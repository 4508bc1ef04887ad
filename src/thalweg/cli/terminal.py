"""Text for a terminal: no control characters, aligned columns, colour where it is welcome."""

import os
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from thalweg.errors import ThalwegError, printable
from thalweg.stream import Stream as Stream
from thalweg.stream import is_terminal as is_terminal

_COLORS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def printable_lines(text: str) -> str:
    """Escape control characters as `printable` does, but keep line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def uses_color(stream: Stream) -> bool:
    """True for a terminal. NO_COLOR (https://no-color.org) beats FORCE_COLOR, which beats that."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def styled(text: str, color: str, stream: Stream) -> str:
    """The text in that colour, if the stream takes colours."""
    return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if uses_color(stream) else text


def error_text(error: ThalwegError) -> str:
    """The three parts of an error, each on its own lines."""
    parts = (("error:", error.problem), ("  seen:", error.seen), ("  fix: ", error.fix))
    return "\n".join(f"{label} {printable_lines(text)}" for label, text in parts if text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Align columns by display width, two spaces apart, without lines: easy for a pipe to read."""
    cells = [list(header), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    )
