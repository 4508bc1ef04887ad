"""The section on a language model: simple models beside it, and texts that it has written."""

from math import isfinite

from thalweg.record import Event
from thalweg.record.quantities import CHANCE_LOSS
from thalweg.report.facts import SPLITS, Facts
from thalweg.report.tag import section, table
from thalweg.wording import count, figure, markup

SAMPLE = "sample"  # the kind of event of a text that the network wrote
NAMES = {
    "trigram": "counts of three tokens",
    "gzip": "gzip of the validation text alone",
    "unigram": "counts of single tokens",
}
SHOWN = 8  # windows


def language_section(facts: Facts) -> str:
    """The losses of simple models, what the network wrote, and its guesses beside the text."""
    body = _baselines(facts) + _samples(facts) + _guesses(facts)
    return section("errors", "What it writes", body) if body else ""


def baseline_rows(facts: Facts) -> list[tuple[str, float, float]]:
    """(model, nat a token, bits a byte) of the network and simple models, the best first."""
    loss, bits = (facts.metrics.get(f"val_{name}", 0.0) for name in ("loss", "bits_per_byte"))
    if not facts.meta.get("baselines") or not (isfinite(loss) and loss > 0):
        return []
    losses = {NAMES.get(name, name): nat for name, nat in facts.meta["baselines"].items()}
    losses["this network"] = loss
    if CHANCE_LOSS in facts.history:
        losses["every token alike"] = facts.history.last(CHANCE_LOSS)
    ranked = sorted(losses.items(), key=lambda pair: pair[1])
    return [(name, nat, nat * bits / loss) for name, nat in ranked]


def samples(facts: Facts) -> list[Event]:
    """The texts that the network wrote, in their order."""
    return [event for event in facts.events if event.kind == SAMPLE]


def _baselines(facts: Facts) -> str:
    rows = [[name, figure(nat), figure(bits)] for name, nat, bits in baseline_rows(facts)]
    if not rows:
        return ""
    caption = "Validation loss beside simple models"
    header = ["model", "nat a token", "bits a byte"]
    return f"<h3>{caption}</h3>{table(header, rows, caption=caption)}"


def _samples(facts: Facts) -> str:
    written = samples(facts)
    if not written:
        return ""
    *earlier, last = written
    body = f"<h3>After {count(last.step, 'step')}</h3>{_sample(last)}"
    for event in reversed(earlier):
        summary = f"after {count(event.step, 'step')}"
        body += f"<details><summary>{markup(summary)}</summary>{_sample(event)}</details>"
    return body


def _sample(event: Event) -> str:
    """The text with its line breaks; every other character is escaped as everywhere."""
    lines = "\n".join(map(markup, str(event.detail.get("text") or "").split("\n")))
    return f'<pre class="written">{lines}</pre>'


def _guesses(facts: Facts) -> str:
    rows = [[row.name, row.target, row.predicted] for row in facts.predictions[:SHOWN]]
    if not rows:
        return ""
    split = SPLITS[facts.split]
    listing = table(
        ["window", "text", "likeliest token at each place"],
        rows,
        caption="Guesses beside the text",
        words=[1, 2],
    )
    text = f"The beginnings of the first {split} windows, and what it takes to follow each token."
    return f"<h3>Guesses beside the text</h3><p>{text}</p>{listing}"
