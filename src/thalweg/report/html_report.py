"""The report of a run as one HTML file."""

from pathlib import Path

from thalweg.diagnosis import Diagnosis
from thalweg.record import RunReader
from thalweg.report.about_section import (
    data_section,
    environment_section,
    recipe_section,
    time_section,
)
from thalweg.report.curvature_section import curvature_section
from thalweg.report.curves_section import curves_section
from thalweg.report.errors_section import errors_section
from thalweg.report.facts import Facts, read_facts
from thalweg.report.forecast_section import forecast_section
from thalweg.report.labels_section import labels_section
from thalweg.report.language_section import language_section
from thalweg.report.page import html_page
from thalweg.report.partial_answers import kinds_section
from thalweg.report.predictions_section import predictions_section
from thalweg.report.regression_section import regression_section
from thalweg.report.sequences_section import sequences_section
from thalweg.report.telling_section import telling_section
from thalweg.report.verdict import verdict
from thalweg.report.verdict_section import checks_section, top
from thalweg.wording import markup

ERRORS = {  # by the kind of the answers
    "classes": errors_section,
    "labels": labels_section,
    "values": regression_section,
    "tokens": language_section,
    "sequences": sequences_section,
    "steps": forecast_section,
}
SCRIPT = Path(__file__).with_name("report.js")


def render_html(run: RunReader, diagnosis: Diagnosis) -> str:
    """The report of a run as a self-contained page."""
    facts = read_facts(run, diagnosis)
    title = f"{facts.name}: {verdict(facts).title}"
    return html_page(title, _body(facts), script=SCRIPT.read_text(encoding="utf-8"))


def _body(facts: Facts) -> str:
    sections = (
        curves_section,
        ERRORS.get(facts.answers, predictions_section),
        kinds_section,
        telling_section,
        checks_section,
        curvature_section,
        data_section,
        recipe_section,
        time_section,
        environment_section,
    )
    version = (facts.meta.get("environment") or {}).get("thalweg", "")
    return (
        f"{top(facts)}\n<main>{''.join(make(facts) for make in sections)}</main>\n"
        f"<footer>thalweg {markup(version)}</footer>"
    )
