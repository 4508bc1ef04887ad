"""The benchmark of the small-image recipe: a toy of it runs, and it claims what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import _airbench, cifar_to_94  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "cifar10"


def test_a_run_that_was_kept_is_not_made_again(tmp_path, monkeypatch):
    made = []

    def run():
        made.append(len(made))
        return {"wall": made[-1]}

    assert [cifar_to_94._kept("a", run)["wall"] for _ in range(2)] == [0, 1]  # nowhere to keep it
    monkeypatch.setenv("C3_RUNS", str(tmp_path / "runs"))
    assert [cifar_to_94._kept("a", run)["wall"] for _ in range(2)] == [2, 2]
    assert cifar_to_94._kept("b", run)["wall"] == 3
    monkeypatch.setenv("BENCHMARK_TINY", "1")
    assert cifar_to_94._kept("a", run)["wall"] == 4  # a toy's run is no run


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_a_toy_run_goes_through_and_is_no_result():
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks", "cifar_to_94"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "BENCHMARK_TINY": "1", "C3_SEEDS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(said.stdout)
    assert found["tiny"]
    assert "claim" not in found
    run = found["runs"]["thalweg"]["each"][0]
    assert run["accuracy"] == run["on the way"][-1]["accuracy"]
    assert run["on the way"][-2]["wall"] < run["wall"] <= run["with validations"]


def test_the_claim_holds_only_where_accuracy_time_and_both_ratios_do():
    ours: dict[str, Any] = {"accuracy": 0.9405, "wall": 390.0, "n": 5}
    slow: dict[str, Any] = {
        "airbench94_muon, bfloat16": {"wall": 480.0},
        "airbench94_muon, float32": {"wall": 800},
    }
    assert cifar_to_94.judged({"thalweg": ours, **slow})["held"]
    assert not cifar_to_94.judged({"thalweg": ours})["held"]  # no peer was measured
    for worse in ({"accuracy": 0.9395}, {"wall": 401.0}):
        assert not cifar_to_94.judged({"thalweg": ours | worse, **slow})["held"]
    fast = slow | {"airbench94_muon, bfloat16": {"wall": 460.0}}
    assert not cifar_to_94.judged({"thalweg": ours, **fast})["held"]


def test_another_version_of_the_peer_is_not_run_as_if_it_were_the_known_one():
    with pytest.raises(SystemExit, match="not the version"):
        _airbench.ported("import torch\n", bfloat16=True, epochs=8)
