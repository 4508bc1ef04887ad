"""`thalweg train --folds`, `--final` and `thalweg final`."""

import json

import numpy as np
import pytest

QUICK = ("--epochs", "1", "--model", "mlp")


@pytest.fixture
def here(tmp_path, monkeypatch, command):
    """The command in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    points = random.normal(size=(120, 4)).astype(np.float32)
    np.savez("points.npz", x=points, y=(points[:, 0] > 0).astype(np.int64))
    return command


@pytest.mark.slow
def test_folds_are_summed_up_and_can_be_resumed(here):
    code, text, _ = here("train", "points.npz", "--folds", "3", *QUICK)
    assert code == 0
    assert "fold-3" in text
    assert "(mean ± std of 3 splits)" in text
    again = here("train", "--resume", "runs/points-npz-folds-1")
    assert again[:2] == (0, text)  # nothing was left to do
    code, out, _ = here("train", "points.npz", "--repeats", "2", "--json", *QUICK)
    assert code == 0
    assert len(json.loads(out)["runs"]) == 2


def test_test_split_is_opened_by_name_and_counted(here):
    held = ("--data.test_fraction", "0.25")
    assert "test loss" not in here("train", "points.npz", *held, *QUICK)[1]
    code, text, _ = here("final", "runs/points-npz-1")
    assert code == 0
    assert "used once" in text
    code, text, _ = here("train", "points.npz", "--seed", "1", "--final", *held, *QUICK)
    assert "test accuracy" in text
    assert "used twice" in text
    score = json.loads(here("final", "runs/points-npz-2", "--json")[1])
    assert (score["uses"], score["repeated"], score["samples"]) == (2, True, 30)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("train", "points.npz", "--folds", "1"), 2, "no such fold"),
        (("train", "points.npz", "--folds", "-1"), 2, "several splits"),
        (("train", "points.npz", "--folds", "1000"), 3, "too few samples"),
        (("train", "points.npz", "--repeats", "1"), 2, "several splits"),
        (("train", "points.npz", "--folds", "3", "--final"), 2, "--final"),
        (("train", "points.npz", "--data.test_fraction", "1.5"), 2, "test_fraction"),
        (("final", "nowhere"), 2, "is no run"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_error(here, arguments, code, word):
    exit_code, _, errors = here(*arguments)
    assert exit_code == code
    assert word in errors
    assert "Traceback" not in errors
