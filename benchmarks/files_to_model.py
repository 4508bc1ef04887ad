"""A folder of 2,000 + 500 photographs → a trained, saved model; seconds from exec to exit, cold.

Claims: at most 1/3 of fastai's and of Ultralytics' time, and 1/4 of Lightning's with torchvision's
ImageFolder, for no less accuracy. ResNet-18 of full width, 128 px, batches of 64, two epochs, from
scratch, in all. Every run is a process of its own; ours begins with an empty cache and measures its
precision, or ("known") finds that in the cache. Runs are interleaved; figures are medians.
"Knowing": the peer with the flags that somebody who knows them would set: channels_last and, where
it works on a CPU, bfloat16 (peers/ says which). BENCHMARK_REPEATS=1 is one round, some 7 minutes.
"""

import sys
from pathlib import Path
from shutil import rmtree
from typing import Any

from benchmarks._peers import peer, process
from benchmarks._rounds import medians, on_photographs

TRAIN, VAL, EPOCHS, REPEATS = 2000, 500, 2, 3
LIMITS = {"fastai": 1 / 3, "ultralytics": 1 / 3, "lightning": 1 / 4}
NOISE = 0.03  # of accuracy: the standard error of a share near 1/2 of 500 is 0.022
OURS = """
import json, sys
from thalweg.cli import main
try:
    main(["train", *sys.argv[1:], "--json"])
except SystemExit as end:
    assert not end.code, end.code
"""


def main() -> dict[str, Any]:
    runs = on_photographs(_round, train=TRAIN, val=VAL, repeats=REPEATS)
    figures = medians(runs, "wall", "cpu", "accuracy")
    ours = figures["thalweg"]
    times = {name: round(found["wall"] / ours["wall"], 2) for name, found in figures.items()}
    best = max(figures[name]["accuracy"] for name in LIMITS)
    is_as_good = ours["accuracy"] >= best - NOISE
    said = ", ".join(f"{times[name]} × {name}" for name in LIMITS)
    return {
        "claim": "C4",
        "goal": ", ".join(f"≥ {1 / limit:.0f} × {name}" for name, limit in LIMITS.items()),
        "measured": f"{said}; accuracy {ours['accuracy']:.3f}, the peers' best {best:.3f}",
        "held": is_as_good and all(times[name] >= 1 / limit for name, limit in LIMITS.items()),
        "n": len(runs["thalweg"]),
        "runs": figures,
        "their time to ours": times,
        "accuracy within noise of the best": is_as_good,
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
    for name in LIMITS:
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


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("files_to_model")
