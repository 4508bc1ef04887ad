"""The section on a model that writes sequences: right by length, examples, attention."""

from collections.abc import Sequence
from typing import NamedTuple

from thalweg.record import Event, PredictionRow
from thalweg.report.facts import SPLITS, Facts
from thalweg.report.tag import bar, scrolling, section, table
from thalweg.wording import count, figure, markup, percent

ATTENTION = "attention"  # the kind of event of a picture of attention
SHOWN = 12  # examples of each kind
MOST_BINS = 8  # of lengths
WORDY = 1.5  # words of a target, in the mean, from which on lengths are in words


class LengthScore(NamedTuple):
    """The share of right sequences among those whose targets have similar lengths."""

    least: int
    most: int
    samples: int
    right: int

    @property
    def name(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"

    @property
    def share(self) -> float:
        return self.right / self.samples


def sequences_section(facts: Facts) -> str:
    """Simple answers beside the network's, right by length, examples, attention."""
    if not facts.predictions:
        return ""
    body = _summary(facts) + _answers(facts) + _lengths(facts) + _examples(facts) + _pictures(facts)
    return section("errors", "What it writes", body)


def answer_rows(facts: Facts) -> list[tuple[str, str, str]]:
    """(who writes, exact match, BLEU) of the network and of simple answers, the best first."""
    scores = facts.meta.get("simple_answers") or {}
    ranked = sorted(
        scores.items(), key=lambda pair: (-pair[1]["exact_match"], -pair[1].get("bleu", 0.0))
    )
    return [
        (
            name,
            percent(own["exact_match"]),
            figure(100 * own["bleu"]) if own.get("bleu") is not None else "–",
        )
        for name, own in ranked
    ]


def length_scores(rows: Sequence[PredictionRow]) -> tuple[str, list[LengthScore]]:
    """The noun for a length, and the scores of bins of lengths with about equally many samples."""
    words = sum(len(row.target.split()) for row in rows)
    in_words = words >= WORDY * len(rows)
    sized = sorted(
        (len(row.target.split()) if in_words else len(row.target), row.target == row.predicted)
        for row in rows
    )
    bins: list[LengthScore] = []
    start = 0
    while start < len(sized):
        end = min(len(sized), start + max(1, -(-len(sized) // MOST_BINS)))
        while end < len(sized) and sized[end][0] == sized[end - 1][0]:
            end += 1
        part = sized[start:end]
        right = sum(is_right for _, is_right in part)
        bins.append(LengthScore(part[0][0], part[-1][0], len(part), right))
        start = end
    return ("words" if in_words else "characters"), bins


def right_and_wrong(
    rows: Sequence[PredictionRow],
) -> tuple[list[PredictionRow], list[PredictionRow]]:
    """The sequences that are written as they should be, and the others, in their order."""
    right = [row for row in rows if row.target == row.predicted]
    return right, [row for row in rows if row.target != row.predicted]


def _summary(facts: Facts) -> str:
    right, wrong = right_and_wrong(facts.predictions)
    total = count(len(right) + len(wrong), f"{SPLITS[facts.split]} sample")
    return (
        f"<p>{count(len(right))} of {total} are written right, token for token. Everything here is "
        "written freely, each token behind the network's own ones.</p>"
    )


def _answers(facts: Facts) -> str:
    rows = answer_rows(facts)
    if not rows:
        return ""
    caption = "Simple answers beside the network's"
    listing = table(["who writes", "exact match", "BLEU"], rows, caption=caption)
    return f"<h3>{caption}</h3>{listing}"


def _lengths(facts: Facts) -> str:
    noun, bins = length_scores(facts.predictions)
    if len(bins) < 2:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{one.name}</th><td>{count(one.samples)}</td>'
        f"<td>{percent(one.share)}</td><td>{bar(one.share)}</td></tr>"
        for one in bins
    )
    caption = f"Right by the length of the target, in {noun}"
    header = "".join(f'<th scope="col">{name}</th>' for name in (noun, "samples", "right", ""))
    listing = (
        f'<table><caption class="unseen">{caption}</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>"
    )
    return f"<h3>{caption}</h3>{scrolling(listing, caption)}"


def _examples(facts: Facts) -> str:
    right, wrong = right_and_wrong(facts.predictions)
    body = ""
    if wrong:
        rows = [[row.name, row.target, row.predicted] for row in wrong[:SHOWN]]
        caption = f"Wrong: {count(len(wrong))}"
        listing = table(["input", "right", "written"], rows, caption=caption, words=[1, 2])
        body += f"<h3>{caption}</h3>{listing}"
    if right:
        rows = [[row.name, row.predicted] for row in right[:SHOWN]]
        caption = f"Right: {count(len(right))}"
        listing = table(["input", "written"], rows, caption=caption, words=[1])
        body += f"<h3>{caption}</h3>{listing}"
    return body


def _pictures(facts: Facts) -> str:
    events = [event for event in facts.events if event.kind == ATTENTION]
    body = "".join(map(_picture, events))
    if not body:
        return ""
    text = "A row for each token that is written; the darker a cell, the more it looks there."
    return f"<h3>Attention</h3><p>{text}</p>{body}"


def _picture(event: Event) -> str:
    """A table of shades: tokens that are read across, tokens that are written down."""
    read, written = event.detail.get("source") or [], event.detail.get("written") or []
    head = "".join(f'<th scope="col"><span>{markup(token)}</span></th>' for token in read)
    rows = "".join(
        f'<tr><th scope="row">{markup(token)}</th>{_cells(line[: len(read)])}</tr>'
        for token, line in zip(written, event.detail.get("weights") or [], strict=False)
    )
    inner = (
        '<table class="matrix dense"><caption class="unseen">Attention: one row a token that is '
        "written, one column a token that is read</caption>"
        f'<thead><tr><td class="corner">writes ↓ reads →</td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
    return scrolling(inner, "Attention")


def _cells(weights: Sequence[float]) -> str:
    return "".join(f'<td class="hit s{round(10 * w)}">{100 * w:.0f}</td>' for w in weights)
