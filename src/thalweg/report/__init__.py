"""A run and its diagnosis as an HTML page, as text and as JSON. No torch."""

from thalweg.report.diagnosis_page import render_diagnosis
from thalweg.report.html_report import render_html
from thalweg.report.json_report import render_json
from thalweg.report.text_report import render_text

__all__ = ["render_diagnosis", "render_html", "render_json", "render_text"]
