"""kill -9 at random moments: the run stays readable, and resumed it ends as if never stopped."""

import os
import random
import signal
import subprocess
import sys
from hashlib import sha256
from time import monotonic, sleep

import numpy as np
import pytest
from sklearn.datasets import load_digits

from thalweg.record import RunReader
from thalweg.record.quantities import LOSS

PROGRAM = """
import sys
from thalweg.api import resume, train
# What is measured may be another precision in each process on a busy machine.
fixed = {"dtype": "float32", "channels_last": True, "matmul": "highest"}
fixed |= {"threads": 0, "compile": False}
edits = {f"precision.{name}": value for name, value in fixed.items()}
if sys.argv[1] == "train":
    train(sys.argv[2], out=sys.argv[3], model="convnet", epochs=4, batch_size=32, edits=edits)
else:
    resume(sys.argv[2])
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    digits = load_digits()
    path = tmp_path_factory.mktemp("kill") / "scans.npz"
    images = (digits.images[:600] * 15.9).astype(np.uint8)
    np.savez(path, images=images, labels=digits.target[:600])
    return path


def start(*arguments, folder):
    environment = os.environ | {"THALWEG_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def end(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def digest(run):
    return sha256((run / "model" / "weights.safetensors").read_bytes()).hexdigest()


def kill_and_resume(scans, folder, moment):
    """Kill a training `moment` seconds after its run folder appears; resume; the run's folder."""
    process = start("train", scans, folder / "runs", folder=folder)
    while not (runs := list((folder / "runs").glob("*/recipe.toml"))):
        assert process.poll() is None, process.stderr.read().decode()
        sleep(0.002)
    sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = runs[0].parent
    if any((run / "checkpoints").glob("step-*")):  # from then on the record is readable
        assert RunReader(run).state in {"died", "finished"}
    end(start("resume", run, folder=folder))
    process.stderr.close()
    return run


def whole_run(scans, folder):
    """The digest of a run that nobody stopped, and the seconds from its folder to its end."""
    process = start("train", scans, folder / "runs", folder=folder)
    while not list((folder / "runs").glob("*/recipe.toml")):
        sleep(0.002)
    began = monotonic()
    end(process)
    return digest(next((folder / "runs").iterdir())), monotonic() - began


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_undisturbed(scans, tmp_path, kills):
    undisturbed, seconds = whole_run(scans, tmp_path / "whole")
    moments = random.Random(kills)
    for number in range(kills):
        moment = moments.uniform(0, seconds)
        run = kill_and_resume(scans, tmp_path / str(number), moment)
        assert digest(run) == undisturbed, f"killed after {moment:.3f} s"
        assert len(RunReader(run).history.series(LOSS)) == RunReader(run).meta["steps"]
