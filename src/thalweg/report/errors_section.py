"""The section on a classifier's mistakes: confusion matrix, classes, worst samples."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

from thalweg.record import PredictionRow
from thalweg.report.confusion import ClassScore, Confusion, confusion, mistakes
from thalweg.report.facts import SPLITS, Facts
from thalweg.report.tag import bar, scrolling, section, table
from thalweg.wording import count, markup, percent

MOST_CLASSES = 30  # of a readable matrix
WITH_COUNTS = 15  # classes up to which the cells show counts
UPRIGHT = 2  # characters of a class's name, up to which it is not turned
TINY = 32  # pixels of a side, up to which enlarged pixels are shown as squares
LEVELS = 10  # shades of the matrix
MOST_PAIRS = 10
WORST_CLASSES = 20  # outside the fold
GALLERY = 24  # pictures
GALLERY_BYTES = 1_500_000


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
    body += _classes(matrix.scores()) + _gallery(wrong)
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


def _classes(scores: Sequence[ClassScore]) -> str:
    ordered = sorted(scores, key=lambda s: (s.recall if s.samples else 2.0, s.name))
    first, rest = ordered[:WORST_CLASSES], ordered[WORST_CLASSES:]
    more = ""
    if rest:
        more = f"<details><summary>The other {count(len(rest), 'class', 'classes')}</summary>"
        more += f"{_class_table(rest)}</details>"
    return f"<h3>Each class, the weakest first</h3>{_class_table(first)}{more}"


def _class_table(scores: Sequence[ClassScore]) -> str:
    head = '<th scope="col" class="words">class</th><th scope="col" colspan="2">recall</th>'
    head += '<th scope="col" colspan="2">precision</th><th scope="col">samples</th>'
    rows = "".join(
        f'<tr><th scope="row">{markup(score.name)}</th>'
        f'<td class="bars">{bar(score.recall)}</td><td>{percent(score.recall)}</td>'
        f'<td class="bars">{bar(score.precision)}</td><td>{percent(score.precision)}</td>'
        f"<td>{count(score.samples)}</td></tr>"
        for score in scores
    )
    name = "Recall and precision of each class"
    return scrolling(
        f'<table class="classes"><caption class="unseen">{name}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table>",
        name,
    )


def _gallery(wrong: Sequence[PredictionRow]) -> str:
    """The most confident mistakes, as pictures where there are any, else as a table."""
    if not wrong:
        return ""
    items: list[str] = []
    room = GALLERY_BYTES
    for row in wrong:
        picture = _picture(row)
        room -= len(picture)
        if picture and room > 0 and len(items) < GALLERY:
            items.append(_gallery_item(row, picture))
    title = "<h3>The surest mistakes</h3>"
    if items:
        return f'{title}<ul class="gallery">{"".join(items)}</ul>'
    rows = [
        [row.name, row.target, row.predicted, percent(row.probability)] for row in wrong[:GALLERY]
    ]
    header = ["sample", "true", "predicted", "probability"]
    return title + table(header, rows, caption="The surest mistakes", words=[1, 2])


def _gallery_item(row: PredictionRow, picture: str) -> str:
    name = row.name.rpartition("/")[2]
    return (
        f'<li><figure>{picture}<figcaption><span class="true">{markup(row.target)}</span>'
        f'<span class="wrong">{markup(row.predicted)} <b>{percent(row.probability, 0)}</b></span>'
        f'<span class="file" title="{markup(row.name)}">{markup(name)}</span></figcaption>'
        "</figure></li>"
    )


def _picture(row: PredictionRow) -> str:
    """The thumbnail as an <img>; "" where there is none, or where it cannot be read."""
    if not row.thumbnail:
        return ""
    from PIL import Image, UnidentifiedImageError  # late: only this section needs it

    try:
        with Image.open(BytesIO(row.thumbnail), formats=("PNG", "WEBP", "JPEG")) as image:
            kind, (width, height) = str(image.format).lower(), image.size
    except (UnidentifiedImageError, OSError, ValueError):
        return ""
    tiny = ' class="tiny"' if max(width, height) <= TINY else ""
    description = f"{row.name}: {row.target}, called {row.predicted}"
    data = b64encode(row.thumbnail).decode()
    return (
        f'<img{tiny} width="{width}" height="{height}" alt="{markup(description)}" '
        f'src="data:image/{kind};base64,{data}">'
    )
