"""A run for a cell of a notebook: its verdict, its figures and its curves, as HTML."""

from thalweg.diagnosis import Diagnosis
from thalweg.notebook import curve, paragraph, table, title
from thalweg.record import RunReader
from thalweg.report.facts import is_share, metric_name, read_facts
from thalweg.report.score_interval import score_interval
from thalweg.report.selection import selection_text
from thalweg.report.text_report import CURVES
from thalweg.report.verdict import progress_note, verdict
from thalweg.wording import figure, markup, percent


def render_card(run: RunReader, diagnosis: Diagnosis) -> str:
    """The verdict, what to change, the scores and the curves."""
    facts = read_facts(run, diagnosis)
    headline = verdict(facts)
    parts = [paragraph(f"{facts.name} · {facts.state}"), title(headline.title, headline.tone)]
    parts.append(paragraph(headline.lead))
    if headline.cause:
        parts += [paragraph(f"Change: {p.change}") for p in headline.cause.prescriptions[:1]]
    main = facts.headline_metric
    interval = score_interval(facts, main) if main else None
    names = sorted(facts.metrics, key=lambda name: name != main)
    rows = [(metric_name(name), _text(name, facts.metrics[name])) for name in names]
    if interval is not None:
        rows[0] = (rows[0][0], f"{rows[0][1]} ({interval})")
    rows += [("saved", text)] if (text := selection_text(facts)) else []
    parts.append(table((), [(markup(name), markup(text)) for name, text in rows]))
    curves = [
        (markup(metric_name(quantity.name)), picture)
        for quantity in CURVES
        if (picture := curve(list(facts.history.series(quantity).values())))
    ]
    parts += [table((), curves)] if curves else []
    note = progress_note(facts)
    return f"<div>{''.join(parts)}{paragraph(note) if note else ''}</div>"


def _text(name: str, value: float) -> str:
    return percent(value) if is_share(name) else figure(value)
