"""Stored curvature stands in the report; broken or hostile files do not."""

import json
from base64 import b64decode

import pytest
from report.sample_runs import healthy
from report.test_html_report import EVIL, Page

from thalweg.diagnosis import diagnose
from thalweg.report import render_html, render_json, render_text

SVG = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
SPECTRUM = {
    "size": 39000,
    "samples": 512,
    "batch_norm": "eval",
    "top": [12.5, 4.0],
    "top_errors": [1e-6, 2e-6],
    "bottom": [-0.585],
    "bottom_errors": [1e-6],
    "trace": {"value": 48.9, "interval": [48.0, 49.8]},
    "band": 0.00125,
    "shares": {"negative": 0.1, "zero": 0.7, "positive": 0.2},
}
LANDSCAPE = {
    "directions": [f"random {EVIL}", "random direction 2"],
    "losses": [[1.0, 2.0], [0.5, None]],
    "centre": 0.4,
    "path_losses": [2.0, 0.4],
    "explained": 0.93,
    "samples": 256,
    "batch_norm": "none",
}


def store(folder, **pictures):
    run = healthy(folder)
    for name, numbers in pictures.items():
        (folder / f"{name}.svg").write_text(SVG)
        (folder / f"{name}.json").write_text(numbers)
    return run, diagnose(run.history)


def test_numbers_and_pictures(tmp_path):
    stored_json = {"spectrum": json.dumps(SPECTRUM), "landscape": json.dumps(LANDSCAPE)}
    run, diagnosis = store(tmp_path / "run", **stored_json)
    page = Page(render_html(run, diagnosis))
    text = " ".join(page.text)
    for number in ("12.5, 4.00", "−0.585", "48.0 to 49.8", "0.160 for plain", "39,000 weights"):
        assert number in text
    for number in ("0.400", "0.500 to 2.00", "2 places, loss 2.00 to 0.400", "93"):
        assert number in text
    images = [attrs["src"] for tag, attrs in page.tags if tag == "img" and "svg" in attrs["src"]]
    assert [b64decode(src.partition(",")[2]).decode() for src in images] == [SVG, SVG]
    assert "−0.585" in render_text(run, diagnosis)
    assert json.loads(render_json(run, diagnosis))["spectrum"] == SPECTRUM


def test_a_run_without_curvature_has_no_section(tmp_path):
    run, diagnosis = store(tmp_path / "run")
    assert 'id="curvature"' not in render_html(run, diagnosis)


@pytest.mark.parametrize(
    "broken", ["", "[1]", "{", '{"top": 3, "trace": 1, "shares": [2]}', '{"top": ["x", null]}']
)
def test_broken_files_are_left_out(tmp_path, broken):
    run, diagnosis = store(tmp_path / "run", spectrum=broken, landscape=broken)
    Page(render_html(run, diagnosis))
    render_text(run, diagnosis)
