"""The report as one HTML file: opens from disk, asks nothing of the network."""

from base64 import b64encode
from hashlib import sha256
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
from thalweg.report.regression_section import regression_section
from thalweg.report.verdict import verdict
from thalweg.report.verdict_section import checks_section, top
from thalweg.wording import markup

HERE = Path(__file__).parent


def render_html(run: RunReader, diagnosis: Diagnosis) -> str:
    """A self-contained page. Nothing in it can reach the network: its own policy forbids it."""
    facts = read_facts(run, diagnosis)
    style = (HERE / "report.css").read_text(encoding="utf-8")
    script = (HERE / "report.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{markup(facts.name)}: {markup(verdict(facts).title)}</title>"
        f"<style>{style}</style></head>\n<body>{_body(facts)}<script>{script}</script></body></html>\n"
    )


def _body(facts: Facts) -> str:
    errors = errors_section if facts.classifies else regression_section
    sections = (
        curves_section,
        errors,
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


def _digest(text: str) -> str:
    """What the policy knows a style or script by."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
