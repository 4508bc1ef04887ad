"""`thalweg train --devices N`, and the command under torchrun on two machines that are one.

A run with `--devices 2` is typed in docs/devices.md, which is a test, too.
"""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from thalweg.api import Run, train
from thalweg.record.quantities import LOSS, VAL_LOSS

RECIPE = """
model.name = "convnet"
model.changes = { width = 8 }
optimizer.lr = 0.01
batch.size = 48
budget.epochs = 2
precision.dtype = "float32"
precision.channels_last = true
precision.matmul = "highest"
precision.threads = 1
precision.compile = false
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    digits = load_digits()
    images = (digits.images[:200] * 15.9).astype(np.uint8)
    np.savez(folder / "scans.npz", images=images, labels=digits.target[:200])
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.mark.parametrize(
    ("count", "seen"), [("0", "devices = 0"), ("99", "batch.size = 48"), ("two", "two")]
)
def test_a_wrong_number_is_one_clear_error(desk, command, monkeypatch, count, seen):
    monkeypatch.chdir(desk)
    code, out, err = command("train", "scans.npz", "--devices", count, "--config", "recipe.toml")
    assert code == 2
    assert seen in err
    assert err.count("error:") == 1
    assert not out
    assert not (desk / "runs").exists()


def node(desk, name, *arguments):
    """torchrun as on one of two machines, with a cache of its own."""
    folder = desk / name
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--rdzv-id", "job"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:29473"]
    command += ["--local-addr", "localhost", "--nproc-per-node", "1", "-m", "thalweg", *arguments]
    own = {"THALWEG_CACHE": str(folder / "cache"), "GLOO_SOCKET_IFNAME": "lo"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=os.environ | own, **streams)


@pytest.mark.slow
def test_two_machines_train_as_one_process(desk):
    arguments = ["train", "../scans.npz", "--config", "../recipe.toml", "--out", "runs"]
    nodes = [node(desk, name, *arguments) for name in ("a", "b")]
    outputs = [each.communicate(timeout=300) for each in nodes]
    assert [each.returncode for each in nodes] == [0, 0], outputs
    (out,) = [out for out, _ in outputs if out]  # the second one is silent
    assert "report   runs/scans-npz-1/report.html" in out
    (folder,) = desk.glob("[ab]/runs/*")
    one = train(desk / "scans.npz", out=desk / "one", edits=_edits(desk))
    for quantity in (LOSS, VAL_LOSS):
        series = Run(folder).history.series(quantity)
        assert series == pytest.approx(one.history.series(quantity), abs=1e-5)


def _edits(desk):
    from thalweg.recipes.recipe import edits_from_toml

    return edits_from_toml(desk / "recipe.toml")
