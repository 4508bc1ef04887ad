"""The benchmarks of a GPU, where there is none: they say so, and their logic runs all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import _gpu_cifar, _table, gpu_cifar, gpu_cifar_cold, gpu_photographs  # noqa: E402

SCRIPTS = ("gpu_cifar", "gpu_cifar_cold", "gpu_photographs")
needs_data = pytest.mark.skipif(
    not (ROOT.parent / "shared" / "data" / "cifar10").exists(), reason="needs ../shared/data"
)


def bench(*names, **environment):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *names],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_each_says_so_in_a_line():
    said = bench(*SCRIPTS, BENCHMARK_TINY="0").stderr.splitlines()
    assert [line.partition(" is not measured: it needs a CUDA device")[0] for line in said] == list(
        SCRIPTS
    )


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_toy_run_goes_through_and_is_no_result(name):
    found = json.loads(bench(name, "--write", BENCHMARK_TINY="1").stdout)
    assert found["tiny"]
    assert "claim" not in found
    assert not (ROOT / "benchmarks" / "results" / f"{name}.json").exists()


RUNS = [{"accuracy": 0.941, "seconds": 1.5}] * 3, [{"accuracy": 0.9405, "seconds": 2.0}] * 3


def test_a_result_takes_its_place_in_the_table():
    found = dict(zip(("thalweg", "airbench94_muon"), RUNS, strict=True))
    warm = _gpu_cifar.judged(found, claim="G1", most=gpu_cifar.LIMIT)
    assert (warm["claim"], warm["held"]) == ("G1", True)
    assert warm["measured"] == "0.75 ×: 1.50 s, 94.10 %"
    cold = _gpu_cifar.judged(found, claim="G2", most=gpu_cifar_cold.LIMIT)
    assert (cold["claim"], cold["held"]) == ("G2", False)
    assert gpu_cifar_cold._run({"wall": 12.0, "runs": RUNS[0][:1]}) == {
        "seconds": 12.0,
        "accuracy": 0.941,
    }
    rates = {"from JPEG": 2900.0, "made-up": 3000.0, "computes in": "bfloat16"}
    loaded = gpu_photographs.judged({"thalweg": [rates], "timm": [{"rate": 1450.0}]})
    assert (loaded["claim"], loaded["held"]) == ("G3", True)
    assert loaded["measured"] == "0.97 ×: 2900 images/s, 2.0 × timm"
    assert {one["claim"] for one in (warm, cold, loaded)} <= _table.GOALS.keys()


def test_speed_without_the_accuracy_does_not_count():
    mine = [{"accuracy": 0.9399, "seconds": 0.1}]
    found = {"thalweg": mine, "airbench94_muon": RUNS[1]}
    assert not _gpu_cifar.judged(found, claim="G1", most=gpu_cifar.LIMIT)["held"]
