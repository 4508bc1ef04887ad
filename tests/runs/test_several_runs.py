"""Folds and ladders with many devices: the same scores, or a refusal before anything starts."""

from typing import Any

import pytest

from thalweg.api import cross_validate, ladder, resume_cross_validation
from thalweg.cli import main
from thalweg.errors import UsageError

FIXED = {"precision.dtype": "float32", "precision.threads": 1, "precision.matmul": "highest"}
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 40}


@pytest.mark.slow
def test_folds_of_two_ranks_score_what_one_process_scores(scans, tmp_path):
    wishes: dict[str, Any] = {"folds": 2, "model": "mlp", "edits": FIXED, **QUICK}
    one = cross_validate(scans, out=tmp_path / "one", **wishes)
    two = cross_validate(scans, out=tmp_path / "two", devices=2, **wishes)
    assert two.scores.keys() == one.scores.keys()
    for name, score in two.scores.items():
        assert score.values == pytest.approx(one.scores[name].values, abs=1e-5)
    assert all("devices = 2" in (run.path / "recipe.toml").read_text() for run in two.runs)


@pytest.mark.slow
def test_a_ladders_networks_are_trained_by_as_many(scans, tmp_path):
    result = ladder(scans, rungs=("chance", "mlp"), out=tmp_path, devices=2, **QUICK)
    assert [rung.name for rung in result.rungs] == ["chance", "mlp"]
    assert result["mlp"].score > 0.3
    assert "devices = 2" in (result.path / "mlp" / "recipe.toml").read_text()


def test_a_ladder_that_cannot_be_divided_is_refused_before_its_first_rung(scans, tmp_path):
    with pytest.raises(UsageError, match="fewer samples than there are devices"):
        ladder(scans, rungs=("chance", "mlp"), out=tmp_path, devices=50, **QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("several", [cross_validate, ladder])
def test_under_torchrun_they_are_refused_before_anything(several, scans, tmp_path, monkeypatch):
    started = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (started | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29400"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="torchrun") as refused:
        several(scans, out=tmp_path)
    assert refused.value.seen == "rank 1 of 2"
    with pytest.raises(UsageError, match="torchrun"):
        resume_cross_validation(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (("--devices", "2"), ("one process", "devices = 2", "--devices 1")),
        ((), ("there is no transfer", "from scratch anyway", "--transfer probe")),
        (("--transfer", "none"), ("there is no transfer", "--transfer probe")),
    ],
)
def test_a_comparison_that_cannot_be_made_trains_nothing(scans, tmp_path, capsys, wishes, words):
    out = tmp_path / "runs"
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(scans), "--compare-scratch", "--out", str(out), *wishes])
    error_text = capsys.readouterr().err
    assert all(word in error_text for word in words)
    assert error_text.count("error:") == 1
    assert not out.exists()
