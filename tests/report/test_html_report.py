"""The pages: well formed, self-contained, accessible, escaped, and true to the run."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from report import sample_runs

from thalweg.diagnosis import Diagnosis, Finding, Prescription, diagnose
from thalweg.record import PredictionRow, RunReader, RunWriter
from thalweg.record.quantities import LOSS, VAL_LOSS
from thalweg.report import render_diagnosis, render_html

VOID = {"meta", "img", "link", "br", "hr", "input"}
EVIL = "<script>alert('x')</script>\"'&<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Every tag with its attributes, in order; fails on one that is not closed as it was opened."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    def of(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def words(self):
        return " ".join(" ".join(self.text).replace("\u202f", " ").replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    parent = tmp_path_factory.mktemp("runs")
    readers = {
        name: getattr(sample_runs, name)(parent / name)
        for name in ("healthy", "sick", "failed", "regression", "many_classes")
    }
    writer, readers["just_begun"] = sample_runs.just_begun(parent / "just_begun")
    yield readers
    writer.close()


@pytest.fixture(scope="module")
def pages(readers):
    reports = {
        name: render_html(run, FIXED.get(name) or diagnose(run.history))
        for name, run in readers.items()
    }
    return reports | {"diagnosis": render_diagnosis(FIXED["sick"])}


RULES = ("initial-loss-above-chance", "loss-not-finite", "overfitting")
SICK = Finding(
    severity="error",
    summary="with learning rate 2 the loss rose from 1.61 to 40 and settled at 2.5",
    evidence={"first loss": 1.61, "late loss": 2.5},
    prescriptions=(
        Prescription(
            change="lower the learning rate from 2 to about 0.002",
            expect="the loss falls below 1.61 within 50 steps",
            edit={"optimizer.lr": 0.002},
        ),
        Prescription(change="clip the gradient norm to 1", expect="no leap of the loss"),
    ),
    rule="learning-rate-too-high",
    stage="optimisation",
)
FIXED = {
    "healthy": Diagnosis((), RULES, {}),
    "sick": Diagnosis((SICK,), RULES, {"dead-relu": "pass batch= to watcher.step"}),
}

NAMES = ["healthy", "sick", "failed", "regression", "many_classes", "just_begun", "diagnosis"]


@pytest.mark.parametrize("name", NAMES)
def test_structure(pages, name):
    page = Page(pages[name])
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        assert set(attributes.get("for", "").split()) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert page.of("html")[0]["lang"] == "en"
    assert all(th["scope"] in ("col", "row") for th in page.of("th"))
    assert len(page.of("caption")) == len(page.of("table"))
    assert all(image["alt"] for image in page.of("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.of("svg"))
    text = pages[name].partition("<script>")[0]
    assert "NaN" not in text.replace("NaN in forward pass", "")  # the name of a rule


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_loaded_from_elsewhere(pages, name):
    text = pages[name]
    page = Page(text)
    assert not page.of("link", "iframe", "object", "embed", "form", "base")
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
        assert all(attributes.get(key, "data:").startswith("data:") for key in ("src", "href"))
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|eval\(", text)
    outside = set(re.findall(r"https?://[^\s\"'<]+", text)) - {"http://www.w3.org/2000/svg"}
    assert outside == set()


def test_the_policy_allows_just_our_style_and_script(pages):
    text = pages["healthy"]
    policy = next(m["content"] for m in Page(text).of("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("name", NAMES)
def test_small(pages, name):
    thumbnails = sum(len(image["src"]) for image in Page(pages[name]).of("img"))
    assert len(pages[name].encode()) - thumbnails < 300_000
    assert thumbnails < 1_600_000


def test_healthy_page_shows_score_and_checks(pages):
    words = Page(pages["healthy"]).words
    assert "Nothing wrong found" in words
    assert "All 3 checks passed." in words
    assert "validation accuracy 95 % interval" in words
    assert "of 734 validation samples are wrong" in words
    assert "cannot be decoded: image file is truncated" in words
    assert "1 min 22 s" in words
    assert "weight_decay = 0.05" in words


def test_sick_page_begins_with_the_fault(pages):
    words = Page(pages["sick"]).words
    top = words.partition("How it learned")[0]
    first = SICK.prescriptions[0]
    assert "Learning rate too high" in top
    assert first.change in top
    assert first.expect in top
    assert "optimizer.lr = 0.002" in top
    assert "Dead ReLU Pass batch= to watcher.step." in words


def test_failed_run(pages):
    words = Page(pages["failed"]).words
    assert "Loss not finite" in words
    assert "137 of 920 steps made" in words
    assert "first seen in stages.1.0" in words
    assert "not a number" in words


def test_run_without_updates(pages):
    words = Page(pages["just_begun"]).words
    assert "Nothing measured yet" in words
    assert "0 of 920 steps made" in words


def test_too_many_classes_for_a_matrix(pages):
    page = Page(pages["many_classes"])
    assert not [t for t in page.of("table") if "matrix" in t.get("class", "")]
    assert "The other 80 classes" in page.words
    assert "Most often confused" in page.words


def test_regression_page(pages):
    page = Page(pages["regression"])
    assert {"against", "residuals"} <= {svg.get("id") for svg in page.of("svg")}
    assert "validation R²" in page.words
    assert "The worst samples" in page.words
    assert "Confusion" not in page.words


def test_matrix_counts_are_those_of_the_predictions(pages, readers):
    rows = readers["healthy"].predictions
    (matrix,) = re.findall(r'<table class="matrix.*?</table>', pages["healthy"], re.DOTALL)
    body = matrix.partition("<tbody>")[2]
    counts = [
        [int(n) for n in re.findall(r"<td[^>]*>(\d+)</td>", row)] for row in body.split("<tr>")[1:]
    ]
    for i, true in enumerate(sample_runs.FLOWERS):
        for j, predicted in enumerate(sample_runs.FLOWERS):
            assert counts[i][j] == sum((r.target, r.predicted) == (true, predicted) for r in rows)


def test_gallery_shows_the_most_confident_mistakes_first(pages, readers):
    wrong = [r for r in readers["healthy"].predictions if r.target != r.predicted and r.thumbnail]
    wrong.sort(key=lambda row: -row.probability)
    shown = [image["alt"] for image in Page(pages["healthy"]).of("img")]
    assert len(shown) == 24
    assert shown == [f"{r.name}: {r.target}, called {r.predicted}" for r in wrong[:24]]


def test_chart_values_are_those_of_the_history(pages, readers):
    lines = [g for g in Page(pages["healthy"]).of("g") if g.get("data-name") == "validation"]
    series = readers["healthy"].history.series(VAL_LOSS)
    assert [int(step) for step in lines[0]["data-steps"].split()] == list(series)
    shown = [float(value) for value in lines[0]["data-values"].split()]
    assert shown == pytest.approx(list(series.values()), rel=1e-4)


@pytest.fixture
def evil(tmp_path):
    """A run in which everything that a user can name is an attack."""
    names = [EVIL, "</style><script>alert(2)</script>", "a\nb\u202e\udce9"]
    with RunWriter(tmp_path / "run") as writer:
        for key in ("source", "model", "state", "headline_metric", "task"):
            writer.set(key, "classification" if key == "task" else EVIL)
        writer.set("class_names", names)
        writer.set("notes", [EVIL])
        writer.set("counts", {EVIL: 3})
        writer.set("environment", {EVIL: EVIL, "thalweg": EVIL})
        writer.set("time_spent", {EVIL: 3.0})
        writer.set("metrics", {EVIL: 0.5, "val_accuracy": 0.5})
        writer.quarantine([(EVIL, EVIL)])
        writer.event(EVIL, EVIL, step=1)
        writer.add(LOSS, 0, {"": 1.0})
        writer.add(LOSS, 1, {"": 1.0})
        picture = sample_runs.thumbnail(0, 1, np.random.default_rng(0))
        writer.predictions(
            PredictionRow("val", f"{name}/1.jpg", name, names[0], 0.9, picture) for name in names
        )
        writer.predictions([PredictionRow("val", "x", names[0], names[1], 0.5, EVIL.encode())])
    (tmp_path / "run" / "recipe.toml").write_text(f"# {EVIL}\n")
    finding = Finding(
        severity="error",
        summary=EVIL,
        where=EVIL,
        evidence={EVIL: 1.0},
        prescriptions=(Prescription(change=EVIL, expect=EVIL, edit={EVIL: EVIL}),) * 2,
        rule=EVIL,
        consequences=(EVIL,),
    )
    note = Finding(severity="note", summary=EVIL, where=EVIL, rule="other")
    return RunReader(tmp_path / "run"), Diagnosis((finding, note), (EVIL,), {EVIL: EVIL})


def test_nothing_that_a_user_names_is_markup(evil):
    text = render_html(*evil)
    page = Page(text)
    assert len(page.of("script")) == len(page.of("style")) == 1

    assert not [a for _, a in page.tags if "onerror" in a]
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.of("img"))
    assert text.encode()  # no half characters are left
    assert "\u202e" not in text
    assert "a\\nb\\u202e\\udce9" in text
    assert page.words.count("<script>alert('x')</script>") > 10  # shown as what it is


def test_diagnosis_page_says_what_to_do(pages):
    words = Page(pages["diagnosis"]).words
    first = SICK.prescriptions[0]
    assert words.startswith("learning-rate-too-high 1 finding · 3 checks passed · 1 not made")
    assert f"Change {first.change} optimizer.lr = 0.002 Then expect {first.expect}" in words
    assert "first loss 1.61" in words
    assert "dead-relu pass batch= to watcher.step" in words
    assert "initial-loss-above-chance, loss-not-finite, overfitting" in words


def test_diagnosis_page_escapes_what_users_name(evil):
    cause, note = evil[1].findings
    diagnosis = replace(evil[1], findings=(replace(cause, consequences=("other",)), note))
    page = Page(render_diagnosis(diagnosis))
    assert not page.of("script", "img")
    assert page.words.count("<script>alert('x')</script>") > 10


def test_hardly_any_facts(tmp_path):
    """Somebody's own loop recorded two losses, and nothing else."""
    with RunWriter(tmp_path) as writer:
        writer.add(LOSS, 0, {"": float("inf")})
        writer.add(LOSS, 1, {"": 0.0})
    run = RunReader(tmp_path)
    Page(render_html(run, diagnose(run.history)))
    Page(render_html(run, Diagnosis((), (), {})))


@pytest.mark.parametrize(
    "values",
    [[1e308, -1e308], [0.0, 0.0], [1e-320, 1.0], [float("nan")] * 3, [5.0], [-1.0, -2.0], [1e9] * 2,
     [1.0, 1.0 + 1e-15], [float("-inf"), 1.0, float("inf")]],
)  # fmt: skip
def test_any_numbers_can_be_drawn(tmp_path, values):
    with RunWriter(tmp_path) as writer:
        writer.set("steps_per_epoch", 1)
        for step, value in enumerate(values):
            writer.add(LOSS, step * 10**9, {"": value})
            writer.add(VAL_LOSS, step * 10**9, {"": -value})
    run = RunReader(tmp_path)
    page = Page(render_html(run, Diagnosis((), ("x",), {})))
    for polyline in page.of("polyline", "polygon"):
        pairs = [tuple(map(float, pair.split(","))) for pair in polyline["points"].split()]
        assert all(-1 <= x <= 460 and -1 <= y <= 260 for x, y in pairs)
