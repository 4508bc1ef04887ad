"""The ladder's picture and page: one file each, all text escaped, nothing outside the frame."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from thalweg.errors import RunError
from thalweg.record.ladder import Ladder, Rung, read_ladder, save_ladder
from thalweg.report.ladder_page import render_ladder
from thalweg.report.ladder_picture import ladder_svg

EVIL = "<script>alert(1)</script>\x1b[2J"


def rung(name, score, seconds, **changes):
    example = Rung(
        name=name,
        title=name,
        kind="linear",
        score=score,
        low=score - 0.02,
        high=score + 0.02,
        samples=100,
        seconds=seconds,
    )
    return replace(example, **changes)


@pytest.fixture
def ladder(tmp_path):
    return Ladder(
        path=tmp_path,
        source=EVIL,
        task="classification",
        metric="accuracy",
        counts={"train": 1000, "val": 100},
        state="finished",
        rungs=(
            rung("chance", 0.1, 0.0),
            rung("ridge", 0.5, 3.0, chosen=EVIL),
            rung("mlp", 0.97, 4000.0, parameters=10**6, train_score=1.0),
        ),
        left_out={"resnet": "needs about 40 s"},
        best="mlp",
        stop_at="mlp",
        advice=EVIL,
    )


def test_picture_is_well_formed_and_stays_in_its_frame(ladder):
    tree = ElementTree.fromstring(ladder_svg(ladder))
    _, _, width, height = map(float, tree.attrib["viewBox"].split())
    for node in tree.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert 0 <= float(node.attrib.get(name, 0)) <= width
        for name in ("y", "y1", "y2", "cy"):
            assert 0 <= float(node.attrib.get(name, 0)) <= height
    assert {"10.0 %", "50.0 %", "97.0 %"} <= {
        (node.text or "").replace("\u202f", " ") for node in tree.iter()
    }


def test_better_stands_to_the_right(ladder):
    tree = ElementTree.fromstring(ladder_svg(ladder))
    dots = [
        float(node.attrib["cx"])
        for node in tree.iter()
        if node.tag.endswith("circle") and "class" not in node.attrib
    ]
    assert dots == sorted(dots)
    durations = [float(n.attrib["cx"]) for n in tree.iter() if n.attrib.get("class") == "took"]
    assert durations == sorted(durations)


def test_scores_of_a_regression_are_plain_numbers(ladder):
    wild = rung("mlp", -40.0, 1.0, low=-90.0, high=-20.0)
    text = ladder_svg(replace(ladder, metric="r2", rungs=(ladder.rungs[1], wild)))
    assert "0.500" in text
    assert "−40.000" in text
    assert "%" not in re.sub(r"95 %|<style>.*</style>", "", text, flags=re.S)


def test_page_stands_alone_and_escapes_all_text(ladder):
    page = render_ladder(ladder)
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r'(src|href)="?http', page)
    assert "style=" not in page  # the page's own policy forbids it
    assert "needs about 40 s" in page
    assert "Stop at mlp" in page


def test_saved_ladder_is_read_back(ladder):
    save_ladder(ladder)
    restored = read_ladder(ladder.path)
    assert restored.to_dict() == ladder.to_dict()
    assert restored["ridge"].train_score != restored["ridge"].train_score  # NaN went as null
    with pytest.raises(KeyError):
        restored["resnet"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 7}', '{"format": 1}'])
def test_reading_names_what_is_no_ladder(tmp_path, text):
    (tmp_path / "ladder.json").write_text(text)
    with pytest.raises(RunError, match="no ladder"):
        read_ladder(tmp_path)
    with pytest.raises(RunError, match="no ladder"):
        read_ladder(Path("nowhere"))


def test_empty_ladder_has_a_page(ladder):
    assert "No rung yet" in render_ladder(replace(ladder, rungs=(), stop_at="", best=""))


def test_nobody_is_told_to_stop_while_a_strong_rung_is_untried(ladder):
    page = render_ladder(replace(ladder, stop_at="", untried=("ResNet", "transfer")))
    assert "Best so far: mlp, 97.0" in page
    assert "Untried: ResNet, transfer." in page
    assert "Stop at" not in page
    assert "Stop at" not in render_ladder(replace(ladder, state="interrupted"))
    assert "Stop at mlp" in render_ladder(ladder)


@pytest.mark.parametrize("slowest", [0.02, 3.0, 4000.0, 3e5])
def test_labels_of_the_axes_do_not_lie_over_each_other(ladder, slowest):
    rungs = (rung("chance", 0.1, 0.01), rung("mlp", 0.97, slowest))
    tree = ElementTree.fromstring(ladder_svg(replace(ladder, rungs=rungs)))
    texts = [node for node in tree.iter() if node.tag.endswith("text")]
    labels = [node for node in texts if node.attrib["class"] == "mid"]
    ends = [(float(n.attrib["x"]), 7.0 * len(n.text)) for n in labels]
    for (left, left_width), (right, right_width) in pairwise(ends):
        if right > left:  # of the same axis
            assert left + left_width / 2 <= right - right_width / 2
    assert len(labels) >= 4


def test_a_long_time_stays_in_the_frame(ladder):
    rungs = (rung("chance", 0.1, 0.01), rung("mlp", 0.97, 43_199.0))
    tree = ElementTree.fromstring(ladder_svg(replace(ladder, rungs=rungs)))
    width = float(tree.attrib["viewBox"].split()[2])
    for node in (node for node in tree.iter() if node.tag.endswith("text")):
        length = 7.0 * len(node.text)
        start = float(node.attrib["x"]) - length * ("end" in node.attrib["class"])
        assert start >= 0
        assert start + length * ("mid" not in node.attrib["class"]) <= width
