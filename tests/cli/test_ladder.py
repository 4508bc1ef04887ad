"""`thalweg ladder` prints a line per rung, or JSON, and one clear error for a mistake."""

import json

import numpy as np
import pytest


@pytest.fixture
def here(tmp_path, monkeypatch, command):
    """The command in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    points = random.normal(size=(300, 4)).astype(np.float32)
    np.savez("points.npz", x=points, y=(points[:, 0] > 0).astype(np.int64))
    return command


def test_table_advice_and_where_to_look(here):
    code, text, errors = here("ladder", "points.npz", "--rungs", "chance,ridge", "--rungs", "knn")
    assert code == 0
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["rung", "chance", "nearest", "ridge"]
    assert "Stop at ridge" in text
    assert "ladder.html" in text
    assert "split: 240 train, 60 val" in errors


def test_json_is_all_that_stands_on_stdout(here):
    code, text, _ = here("ladder", "points.npz", "--rungs", "chance,ridge", "--json")
    ladder = json.loads(text)
    assert code == 0
    assert [rung["name"] for rung in ladder["rungs"]] == ["chance", "ridge"]
    assert ladder["stop_at"] == "ridge"
    assert ladder["schema"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("nowhere",), 3, "nowhere"),
        (("points.npz", "--rungs", "ridgee"), 2, "did you mean ridge"),
        (("points.npz", "--rungs", "convnet"), 2, "needs images"),
        (("points.npz", "--k", "0"), 2, "k must lie"),
        (("points.npz", "--k", "5000"), 2, "k must lie"),
        (("points.npz", "--penalty", "-1"), 2, "penalty"),
        (("points.npz", "--minutes", "-1"), 2, "minutes"),
        (("points.npz", "--minuets", "1"), 2, "--minutes"),
        (("points.npz", "--device", "abacus"), 2, "abacus"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_error(here, arguments, code, word):
    exit_code, _, errors = here("ladder", *arguments)
    assert exit_code == code
    assert word in errors
    assert "Traceback" not in errors
