"""Lines of a text that each hold a pair: a command with its output, or cells between tabs."""

import re
from collections import Counter
from collections.abc import Sequence

SOURCE, TARGET = "source", "target"
MOST_CELLS = 3  # of a line: source, target and where they come from
LEAST_LINES = 3
ALIKE = 0.95  # share of the lines that have as many cells as most
_COMMAND = re.compile(r"\s*IN:(.*?)\s+OUT:(.*)")  # of SCAN: Lake & Baroni 2018
_ATTRIBUTION = re.compile(r"CC-BY|CC BY|tatoeba", re.IGNORECASE)

Cells = tuple[str, ...]


def command_pair(line: str) -> tuple[str, str] | None:
    """The command and the output of "IN: jump twice OUT: I_JUMP I_JUMP"; None for another line."""
    match = _COMMAND.fullmatch(line)
    return (match[1].strip(), match[2].strip()) if match else None


def are_commands(lines: Sequence[str]) -> bool:
    """Return whether nearly every line is of the form of SCAN."""
    full = [line for line in lines if line.strip()]
    return bool(full) and sum(map(bool, map(command_pair, full))) >= ALIKE * len(full)


def tab_cells(line: str) -> Cells:
    """The cells of a line between tabs, without the quotes around a whole cell."""
    return tuple(map(_unquoted, line.split("\t")))


def are_tab_separated(lines: Sequence[str]) -> bool:
    """Return whether nearly every line has two or three cells between tabs, equally many."""
    full = [line for line in lines if line.strip()]
    widths = Counter(line.count("\t") + 1 for line in full)
    if len(full) < LEAST_LINES:
        return False
    width, number = widths.most_common(1)[0]
    return 2 <= width <= MOST_CELLS and number >= ALIKE * len(full)


def is_attribution(cells: Sequence[str]) -> bool:
    """Return whether a column says where its sentences come from, as in Tatoeba's lists."""
    return bool(cells) and sum(bool(_ATTRIBUTION.search(cell)) for cell in cells) >= ALIKE * len(
        cells
    )


def _unquoted(cell: str) -> str:
    """The cell without quotes around it, where those within are doubled, as in a CSV."""
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell
