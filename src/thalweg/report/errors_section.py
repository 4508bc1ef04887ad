"""The section on a classifier's mistakes: confusion matrix, classes, worst samples."""

from collections.abc import Sequence

from thalweg.report.class_table import class_table
from thalweg.report.confusion import ClassScore, Confusion, confusion, mistakes
from thalweg.report.facts import SPLITS, Facts
from thalweg.report.gallery import gallery
from thalweg.report.tag import scrolling, section, table
from thalweg.wording import count, markup, percent

MOST_CLASSES = 30  # of a readable matrix
WITH_COUNTS = 15  # classes up to which the cells show counts
UPRIGHT = 2  # characters of a class's name, up to which it is not turned
LEVELS = 10  # shades of the matrix
MOST_PAIRS = 10


def errors_section(facts: Facts) -> str:
    """The mistakes on the test or the validation split; "" without predictions."""
    if not facts.predictions:
        return ""
    matrix = confusion(facts.predictions, facts.classes)
    wrong = mistakes(facts.predictions)
    of = f"{count(len(wrong))} of {count(matrix.total)} {SPLITS[facts.split]} samples are wrong."
    whole = _matrix_table(matrix) if len(matrix.names) <= MOST_CLASSES else ""
    pairs = _pairs(matrix)
    body = f"<p>{of}</p>"
    if whole or pairs:
        body += f'<div class="beside">{whole}{pairs}</div>'
    body += "<h3>Each class, the weakest first</h3>"
    body += class_table(_weakest_first(matrix.scores()), noun="class", plural="classes")
    body += gallery(wrong)
    return section("errors", "Where it errs", body)


def _matrix_table(matrix: Confusion) -> str:
    """A table with one cell a pair, shaded by its share of the row."""
    columns = "".join(f'<th scope="col"><span>{markup(name)}</span></th>' for name in matrix.names)
    rows = "".join(
        f'<tr><th scope="row">{markup(name)}</th>{_cells(matrix, index)}</tr>'
        for index, name in enumerate(matrix.names)
    )
    size = "roomy" if len(matrix.names) <= WITH_COUNTS else "dense"
    if max(map(len, matrix.names)) <= UPRIGHT:
        size += " upright"
    inner = (
        f'<table class="matrix {size}"><caption class="unseen">Confusion matrix: one row a true '
        "class, one column a predicted class, in counts</caption>"
        f'<thead><tr><td class="corner">true ↓ predicted →</td>{columns}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
    return (
        '<div class="block"><h3>Confusion</h3>'
        f"{scrolling(inner, 'Confusion matrix; arrow keys read the cells')}"
        '<output class="readout matrix-readout"></output></div>'
    )


def _cells(matrix: Confusion, row: int) -> str:
    total = sum(matrix.counts[row])
    return "".join(
        _cell(number, total, right=row == column)
        for column, number in enumerate(matrix.counts[row])
    )


def _cell(number: int, total: int, *, right: bool) -> str:
    """A cell whose shade is at least 1 where it is not zero, so that one mistake is visible."""
    if not number:
        return '<td class="zero">0</td>'
    level = max(1, round(LEVELS * number / total))
    return f'<td class="{"hit" if right else "miss"} s{level}">{number}</td>'


def _pairs(matrix: Confusion) -> str:
    pairs = matrix.pairs()[:MOST_PAIRS]
    if not pairs:
        return ""
    rows = [[f"{p.target} → {p.predicted}", count(p.samples), percent(p.share, 0)] for p in pairs]
    shown = table(["true → predicted", "samples", "of class"], rows, caption="Most confused pairs")
    return f'<div class="block"><h3>Most often confused</h3>{shown}</div>'


def _weakest_first(scores: Sequence[ClassScore]) -> list[ClassScore]:
    return sorted(scores, key=lambda s: (s.recall if s.samples else 2.0, s.name))
