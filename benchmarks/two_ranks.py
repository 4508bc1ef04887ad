"""Two ranks on two cores beside one process with two threads: the same loss curve, at what speed.

Claim S1: no loss of the curve differs by more than 1e-5. Everything is float32, batch norm and
augmentation included, at a learning rate that does not blow rounding up; how far one process is
from itself, with one thread in the place of two, stands beside it. Efficiency is the time of a step
of one process divided by that of two ranks, without start and end: what a longer run takes more
than a shorter one. Runs are interleaved; times are medians.
"""

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch

from thalweg.api import Run, train
from thalweg.record.quantities import LOSS

TINY = os.environ.get("BENCHMARK_TINY") == "1"
SAMPLES, SIDE, CLASSES, BATCH = (320, 16, 4, 32) if TINY else (2560, 32, 10, 128)
SHORT, LONG, REPEATS, LIMIT = 1, 3, 1 if TINY else 3, 1e-5
EDITS: dict[str, object] = {
    "model.name": "resnet20",
    "optimizer.lr": 0.002,
    "augment.flip": True,
    "augment.crop_padding": 2,
    "batch.size": BATCH,
    "precision.dtype": "float32",
    "precision.channels_last": True,
    "precision.matmul": "highest",
    "precision.compile": False,
}
ONE, TWO = {"devices": 1, "precision.threads": 2}, {"devices": 2, "precision.threads": 1}
SELF = {"devices": 1, "precision.threads": 1}


def main() -> dict[str, object]:
    with TemporaryDirectory() as name, patch.dict(os.environ, THALWEG_CACHE=f"{name}/cache"):
        return _measured(Path(name))


def _measured(folder: Path) -> dict[str, object]:
    data = _images(folder)
    seconds: dict[str, list[float]] = {"one": [], "two": []}
    curves: dict[str, Mapping[int, float]] = {}
    for _ in range(REPEATS):
        for key, how in (("one", ONE), ("two", TWO)):
            short, long = (_run(data, folder, epochs, how) for epochs in (SHORT, LONG))
            steps = long.reader.meta["steps"] - short.reader.meta["steps"]
            seconds[key].append((_training(long) - _training(short)) / steps)
            curves[key] = long.history.series(LOSS)
    itself = _run(data, folder, LONG, SELF).history.series(LOSS)
    apart = _apart(curves["one"], curves["two"])
    times = {key: statistics.median(found) for key, found in seconds.items()}
    ratio = times["one"] / times["two"]
    return {
        "claim": "S1",
        "goal": f"one process's loss curve to {LIMIT:.0e}",
        "measured": f"{apart:.1e} apart; {ratio:.2f} × one process's speed",
        "held": apart <= LIMIT,
        "n": REPEATS,
        "tiny": TINY,
        "steps": len(curves["one"]),
        "largest difference of the losses": apart,
        "the same of one process with 1 thread and with 2": _apart(curves["one"], itself),
        "efficiency": round(ratio, 3),
        "ms a step": {key: round(1000 * found, 1) for key, found in times.items()},
        "cores": len(os.sched_getaffinity(0)),
    }


def _run(data: Path, folder: Path, epochs: int, how: Mapping[str, object]) -> Run:
    edits = {**EDITS, "budget.epochs": epochs, **how}
    torch.manual_seed(0)
    return train(data, edits=edits, out=folder / "runs")


def _training(run: Run) -> float:
    """Seconds spent in updates: without reading, validating and saving."""
    return float(run.reader.meta["time_spent"]["training"])


def _apart(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    assert first.keys() == second.keys()
    return max(abs(first[step] - second[step]) for step in first)


def _images(folder: Path) -> Path:
    """Noise, brighter in one place for each class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=SAMPLES)
    images = rng.integers(0, 200, size=(SAMPLES, SIDE, SIDE, 3), dtype=np.uint8)
    for label in range(CLASSES):
        images[labels == label, label : label + 4, label : label + 4] += 55
    path = folder / "images.npz"
    np.savez(path, images=images, labels=labels)
    return path
