"""The table of each class's or label's recall and precision."""

from collections.abc import Sequence

from thalweg.report.confusion import ClassScore
from thalweg.report.label_scores import LabelScore
from thalweg.report.tag import bar, scrolling
from thalweg.wording import count, markup, percent

WORST_CLASSES = 20  # outside the fold


def class_table(
    scores: Sequence[ClassScore] | Sequence[LabelScore], *, noun: str, plural: str = ""
) -> str:
    """The scores in their order, the first ones shown, the others collapsed."""
    first, rest = scores[:WORST_CLASSES], scores[WORST_CLASSES:]
    if not rest:
        return _table(first, noun)
    summary = f"<summary>The other {count(len(rest), noun, plural)}</summary>"
    return f"{_table(first, noun)}<details>{summary}{_table(rest, noun)}</details>"


def _table(scores: Sequence[ClassScore] | Sequence[LabelScore], noun: str) -> str:
    head = f'<th scope="col" class="words">{noun}</th><th scope="col" colspan="2">recall</th>'
    head += '<th scope="col" colspan="2">precision</th><th scope="col">samples</th>'
    rows = "".join(
        f'<tr><th scope="row">{markup(score.name)}</th>'
        f'<td class="bars">{bar(score.recall)}</td><td>{percent(score.recall)}</td>'
        f'<td class="bars">{bar(score.precision)}</td><td>{percent(score.precision)}</td>'
        f"<td>{count(score.samples)}</td></tr>"
        for score in scores
    )
    name = f"Recall and precision of each {noun}"
    return scrolling(
        f'<table class="classes"><caption class="unseen">{name}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table>",
        name,
    )
