"""What a cell of a notebook shows: well-formed HTML, every text escaped, no script."""

from html.parser import HTMLParser

import numpy as np
import pytest
from report import sample_runs

from thalweg.api import Progress, Run
from thalweg.diagnosis import Diagnosis, Finding, Prescription
from thalweg.notebook import curve
from thalweg.record import History
from thalweg.record.quantities import GRADIENT_NORM, LOSS
from thalweg.runs import progress_line
from thalweg.tasks.task import Prediction, Predictions

EVIL = "<script>alert('x')</script>\"'&"


class Html(HTMLParser):
    """The tags and the words; fails on a tag that is not closed as it was opened."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._open = set(), [], []
        self.feed(text)
        self.close()
        assert self._open == []
        assert not self.tags & {"script", "style", "iframe", "link"}

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.replace("\u202f", " ").replace("\xa0", " "))


def shown(thing):
    return Html(thing._repr_html_())


FINDING = Finding(
    severity="error",
    summary=EVIL,
    evidence={EVIL: 2.0},
    prescriptions=(Prescription(change="lower it", expect=EVIL),),
    rule="learning-rate-too-high",
)


def test_a_diagnosis():
    page = shown(Diagnosis((FINDING,), ("overfitting",), {"dead-relu": EVIL}))
    assert {"learning-rate-too-high", EVIL, "lower it", "1 check passed"} <= {*page.words}
    assert "Nothing found wrong" in shown(Diagnosis((), ("overfitting",), {})).words


def test_a_history():
    history = History()
    for step in range(1000):
        history.add(LOSS, step, {"": float("nan") if step == 3 else 2.0 + step})
    history.add(GRADIENT_NORM, 0, {"head": 1.0})
    page = shown(history)
    assert {"loss", "1,000", "2.00", "also measured: gradient_norm"} <= {*page.words}
    assert "polyline" in page.tags


def test_predictions():
    label = Prediction(EVIL, 0.75, {EVIL: 0.75, "dog": 0.25}, float("nan"))
    value = Prediction("3.5", 1.0, {}, 3.5)
    assert {EVIL, "0.750", "dog"} <= {*shown(label).words}
    assert "3.5" in shown(value).words
    page = shown(Predictions([label, value] * 40))
    assert "and 30 more" in page.words
    assert Predictions([label]) == [label]


@pytest.mark.parametrize("name", ["healthy", "sick", "failed", "regression"])
def test_a_run(tmp_path, name):
    getattr(sample_runs, name)(tmp_path / name)
    page = shown(Run(tmp_path / name))
    assert any(name in words for words in page.words)
    assert "polyline" in page.tags


def test_a_run_just_begun(tmp_path):
    writer, reader = sample_runs.just_begun(tmp_path / "run")
    assert "Nothing measured yet" in shown(Run(reader.path)).words
    writer.close()


@pytest.mark.parametrize(
    "values", [[], [1.0], [float("nan")] * 5, [1e308, -1e308, 3.0], [2.0, 2.0], range(10_000)]
)
def test_a_curve_of_any_values(values):
    text = curve(list(values))
    assert "nan" not in text
    Html(text)


def test_a_notebook_gets_a_line_that_is_overwritten(monkeypatch):
    from io import StringIO

    monkeypatch.setattr(progress_line, "is_notebook", lambda: True)
    monkeypatch.setattr(progress_line, "INTERVAL", 0.001)
    cell, progress = StringIO(), Progress()
    progress.phase, progress.samples = "reading", (3, 10)
    line = progress_line._ProgressLine(progress, cell)
    line.update()
    line.end()
    first, blank = cell.getvalue().lstrip("\r").split("\r")[:2]
    assert first.startswith("reading")
    assert blank == " " * len(first)
    assert "\x1b" not in cell.getvalue()


class Terminal:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_python_shows_the_progress_on_a_terminal_alone(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_line.progress_by_default(None) as progress:
        progress.messages.append("images brought to 32 px")
    assert "images brought to 32 px" in terminal.text
    own = Progress()
    with progress_line.progress_by_default(own) as progress:
        assert progress is own
    terminal.text = ""
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with progress_line.progress_by_default(None) as progress:
        progress.messages.append("quiet")
    assert terminal.text == ""


def test_numbers_of_any_kind_are_bars():
    from thalweg.notebook import share_bar

    for share in (0.5, -1.0, 2.0, float("nan"), float(np.float32(0.1))):
        Html(share_bar(share))
