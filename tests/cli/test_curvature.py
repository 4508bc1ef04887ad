"""`thalweg spectrum` and `thalweg landscape` on a small run of real digits."""

import json
import subprocess
import sys

import pytest


def thalweg(*words):
    command = [sys.executable, "-m", "thalweg", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    done = thalweg("train", "digits", "--epochs", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    return next(out.iterdir())


def test_spectrum(run):
    done = thalweg("spectrum", run, "--samples", 32)
    assert done.returncode == 0, done.stderr
    assert "batch norm in train mode" in done.stdout
    assert (run / "spectrum.svg").read_text().lstrip().startswith("<?xml")
    spectrum = json.loads((run / "spectrum.json").read_text())
    assert spectrum["samples"] == 32
    assert f"{spectrum['top'][0]:.4g}" in done.stdout
    assert spectrum["shape"]["kind"] in ("not-critical", "saddle", "flat", "undecided", "minimum")
    assert f": {spectrum['shape']['reason']}\n" in done.stdout
    assert "of their length in the sharpest direction" in done.stdout


@pytest.mark.slow
def test_the_report_shows_what_was_kept(run):
    along_path = ("--points", 3, "--directions", "principal", "--dimensions", 1)
    for words in (("spectrum",), ("landscape", *along_path)):
        assert thalweg(words[0], run, *words[1:], "--samples", 64).returncode == 0
    assert thalweg("report", run).returncode == 0
    page = (run / "report.html").read_text()
    assert page.count('src="data:image/svg+xml;base64,') == 2
    report = json.loads(thalweg("report", run, "--json").stdout)
    assert report["spectrum"]["samples"] == 64
    assert len(report["landscape"]["path"]) == len(report["landscape"]["path_losses"])
    assert min(report["landscape"]["losses"]) <= 1.01 * report["landscape"]["centre"]


@pytest.mark.slow
def test_json_keeps_nothing_in_the_run(run):
    assert thalweg("spectrum", run, "--samples", 64).returncode == 0
    before = (run / "spectrum.json").read_bytes()
    assert thalweg("spectrum", run, "--samples", 32, "--json").returncode == 0
    assert (run / "spectrum.json").read_bytes() == before


@pytest.mark.slow
def test_landscape_as_json_and_picture(run, tmp_path):
    picture = tmp_path / "plane.png"
    words = ("--samples", 64, "--points", 3, "--json", "--out", picture)
    done = thalweg("landscape", run, *words)
    assert done.returncode == 0, done.stderr
    landscape = json.loads(done.stdout)
    assert len(landscape["losses"]) == len(landscape["losses"][0]) == 3
    assert landscape["losses"][1][1] == min(map(min, landscape["losses"]))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_no_run_is_an_error_that_names_it(tmp_path):
    done = thalweg("spectrum", tmp_path / "nothing")
    assert done.returncode == 2
    assert "nothing" in done.stderr


RULES = {"edge-of-stability", "stuck-at-saddle"}


@pytest.mark.slow
def test_curvature_is_watched_only_where_asked_for(run, tmp_path):
    off = json.loads(thalweg("diagnose", run, "--json").stdout)["diagnosis"]
    assert set(off["not_checked"]) >= RULES
    assert all("--watch.sharpness" in off["not_checked"][name] for name in RULES)
    words = ("--model", "mlp", "--epochs", 2, "--watch.sharpness", "--out", tmp_path)
    done = thalweg("train", "digits", *words)
    assert done.returncode == 0, done.stderr
    report = json.loads(thalweg("diagnose", next(tmp_path.iterdir()), "--json").stdout)
    assert not RULES & set(report["diagnosis"]["not_checked"])
    assert report["curves"]["sharpness"]["values"][-1] > 0
    assert report["curves"]["sharpness_ratio"]["values"][-1] > 0
