"""The ladder on CIFAR-10, 50,000 / 10,000 images: every rung's accuracy, seconds and CPU seconds.

Two things are claimed: each rung reaches what the course notes' assignments and the literature
report for it (FLOOR), and `thalweg ladder` is at its first MLP after about a minute on two cores.
The test images stand in for the validation split, so that figures are comparable; no setting is
chosen on them. $THALWEG_RUNGS names the parts to run: ladder (up to HOG + hue, MLP), neighbours
(5,000 / 500), nearest (1-NN on all images, L1 and L2), words (visual words, $THALWEG_WORDS).
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from benchmarks import classical_cifar
from benchmarks._cifar10 import Cifar10, cifar10
from thalweg.api import ladder_steps

MINUTES = 20.0  # more than enough: what is measured is how long it takes
UP_TO_MLP = ("chance", "knn", "ridge", "softmax", "svm", "hog-softmax", "hog-mlp")
A_MINUTE = 75.0  # seconds on two cores, when nothing else runs
FLOOR = {  # CS231n's assignments; our earlier runs on a lossy copy; Coates, Lee & Ng 2011
    "knn": 0.28,
    "ridge": 0.40,
    "softmax": 0.40,
    "svm": 0.385,
    "hog-softmax": 0.505,
    "hog-mlp": 0.585,
    "5,000 / 500 nearest neighbours": 0.28,
    "1-NN, L1": 0.38,
    "1-NN, L2": 0.35,
    "visual words, L2-SVM": 0.68,
}


def main() -> dict[str, object]:
    data = cifar10()
    asked = os.environ.get("THALWEG_RUNGS", ",".join(PARTS)).split(",")
    found = {name: part(data) for name, part in PARTS.items() if name in asked}
    rungs = {name: row for rows in found.values() for name, row in rows.items()}
    held = {name: rungs[name]["accuracy"] >= low for name, low in FLOOR.items() if name in rungs}
    total = {
        kind: round(sum(row[kind] for row in found.get("ladder", {}).values()), 1)
        for kind in ("seconds", "CPU seconds")
    }
    return {
        "n": len(data.test),
        "threads": torch.get_num_threads(),
        "rungs": rungs,
        "floors": FLOOR,
        "held": held,
        "up to the MLP": total | {"goal": A_MINUTE, "held": total["seconds"] <= A_MINUTE},
    }


def run_ladder(data: Cifar10) -> dict[str, dict]:
    """`thalweg ladder` up to the first MLP; reading the file belongs to the first rung."""
    rows: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = _file(data, Path(folder))
        start, cpu = perf_counter(), process_time()
        for step in ladder_steps(path, minutes=MINUTES, rungs=UP_TO_MLP, out=Path(folder) / "runs"):
            if len(step.rungs) == len(rows):
                continue  # the last yield, which adds no rung
            rung = step.rungs[-1]
            rows[rung.name] = {
                "accuracy": round(rung.score, 4),
                "interval": [round(rung.low, 4), round(rung.high, 4)],
                "judged on": rung.samples,
                "seconds": round(perf_counter() - start, 2),
                "CPU seconds": round(process_time() - cpu, 2),
                "chosen": rung.chosen,
            }
            print(rung.name, rows[rung.name], file=sys.stderr, flush=True)
            start, cpu = perf_counter(), process_time()
    return rows


def classical(*names: str) -> Callable[[Cifar10], dict[str, dict]]:
    """Rungs of `classical_cifar`, measured alike."""

    def part(data: Cifar10) -> dict[str, dict]:
        rows = {}
        for name in names:
            start, cpu = perf_counter(), process_time()
            accuracy, detail = classical_cifar.RUNGS[name](data)
            rows[name] = {
                "accuracy": round(accuracy, 4),
                "seconds": round(perf_counter() - start, 2),
                "CPU seconds": round(process_time() - cpu, 2),
                **detail,
            }
            print(name, rows[name], file=sys.stderr, flush=True)
        return rows

    return part


def _file(data: Cifar10, folder: Path) -> Path:
    arrays: dict[str, Any] = {
        "x_train": data.train.permute(0, 2, 3, 1).numpy(),
        "y_train": data.train_classes.numpy(),
        "x_val": data.test.permute(0, 2, 3, 1).numpy(),
        "y_val": data.test_classes.numpy(),
    }
    np.savez(folder / "cifar10.npz", **arrays)
    return folder / "cifar10.npz"


PARTS = {
    "ladder": run_ladder,
    "neighbours": classical("5,000 / 500 nearest neighbours"),
    "nearest": classical("1-NN, L2", "1-NN, L1"),
    "words": classical("visual words, L2-SVM"),
}

if __name__ == "__main__":
    import json

    print(json.dumps(main(), indent=2))
