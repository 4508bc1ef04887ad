"""A run and its diagnosis as a page, as text and as JSON. Knows nothing of torch."""

from thalweg.report.html_report import render_html
from thalweg.report.json_report import render_json
from thalweg.report.text_report import render_text

__all__ = ["render_html", "render_json", "render_text"]
