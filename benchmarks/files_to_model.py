"""A folder of 2,000 + 500 photographs → a trained, saved model; seconds from exec to exit, cold.

Claims: at most 1/3 of fastai's time and 1/4 of Lightning's with torchvision's ImageFolder.
ResNet-18 of full width, 128 px, batches of 64, two epochs, from scratch, in all. Every run is a
process of its own; ours begins with an empty cache and measures its precision, or ("known") finds
that in the cache. Runs are interleaved; figures are medians. "Knowing": the peer with the flags
that somebody who knows them would set: channels_last and, where it works on a CPU, bfloat16.
"""

import sys
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._peers import peer, peer_python, process
from benchmarks._photographs import photographs

TRAIN, VAL, EPOCHS, REPEATS = 2000, 500, 2, 3
LIMITS = {"fastai": 1 / 3, "lightning": 1 / 4}
OURS = """
import json, sys
from thalweg.cli import main
try:
    main(["train", *sys.argv[1:], "--json"])
except SystemExit as end:
    assert not end.code, end.code
"""


def main(repeats: int = REPEATS) -> dict[str, Any]:
    peer_python()  # before an hour is spent on one half of a comparison
    with TemporaryDirectory() as place:
        folder = Path(place) / "photographs"
        photographs(folder, train=TRAIN, val=VAL)
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(repeats):
            for name, found in _round(folder, Path(place)).items():
                runs.setdefault(name, []).append(found)
    figures = {name: _summary(found) for name, found in runs.items()}
    ours = figures["thalweg"]["wall"]
    ratios = {n: round(ours / f["wall"], 3) for n, f in figures.items() if n[:7] != "thalweg"}
    times = {name: 1 / ratio for name, ratio in ratios.items()}
    return {
        "claim": "C4",
        "goal": ", ".join(f"≥ {1 / limit:.0f} × {name}" for name, limit in LIMITS.items()),
        "measured": ", ".join(f"{times[name]:.2f} × {name}" for name in LIMITS),
        "held": all(ratios[name] <= limit for name, limit in LIMITS.items()),
        "n": repeats,
        "runs": figures,
        "ours to theirs": ratios,
        "limits": LIMITS,
    }


def _round(folder: Path, place: Path) -> dict[str, dict[str, Any]]:
    """One run of each; the order is fixed, the rounds follow each other."""
    out = place / "model"
    found = {"thalweg": _ours(folder, place / "cache", place / "runs")}
    # The pictures are forgotten, what was measured is not.
    for entry in (place / "cache").glob("*-*"):
        rmtree(entry)
    found["thalweg, precision known"] = _ours(folder, place / "cache", place / "runs")
    rmtree(place / "cache")
    for name in ("fastai", "lightning"):
        found[name] = peer(f"{name}_folder.py", folder, EPOCHS, "plain", out)
        found[f"{name}, knowing"] = peer(f"{name}_folder.py", folder, EPOCHS, "knowing", out)
    return found


def _ours(folder: Path, cache: Path, out: Path) -> dict[str, Any]:
    options = ["--model", "resnet18", "--model.changes.width", "64", "--image-size", "128"]
    options += ["--batch-size", "64", "--epochs", str(EPOCHS), "--out", str(out)]
    script = OURS + "import pathlib; from thalweg.record import RunReader\n"
    script += f"run = max(pathlib.Path({str(out)!r}).iterdir(), key=lambda p: p.stat().st_mtime)\n"
    script += "print(json.dumps({'accuracy': RunReader(run).meta['metrics']['val_accuracy']}))"
    command = [sys.executable, "-c", script, str(folder), *options]
    return process(command, {"THALWEG_CACHE": str(cache)})


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: round(median(run[key] for run in runs), 3) for key in ("wall", "cpu", "accuracy")}


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("files_to_model")
