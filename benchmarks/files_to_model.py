"""A folder of 2,000 + 500 photographs → a trained, saved model; seconds from exec to exit, cold.

Claims: at most 1/3 of fastai's and of Ultralytics' time, and 1/4 of Lightning's with torchvision's
ImageFolder, for no less accuracy. ResNet-18 of full width, 128 px, batches of 64, two epochs, from
scratch, in all. Every run is a process of its own; each of ours begins with an empty cache and,
where not told, measures its precision. Runs are interleaved; figures are medians.

"Knowing": with the flags that somebody who knows a trainer would set. For peers, channels_last and,
where it works on a CPU, bfloat16 (peers/ says which). For ours one pass in place of two, since it
teaches as much; images that stay small to its end; and bfloat16 said, so that it need not be
measured. They were chosen with other seeds on other photographs of the same source (LOG.md, C4).

The claim stands on one of ours that is as accurate as the best peer as it comes.
BENCHMARK_REPEATS=1 is one round, some 8 minutes.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks._peers import peer, process
from benchmarks._rounds import medians, on_photographs

TRAIN, VAL, EPOCHS, REPEATS = 2000, 500, 2, 3
LIMITS = {"fastai": 1 / 3, "ultralytics": 1 / 3, "lightning": 1 / 4}
NOISE = 0.03  # of accuracy: the standard error of a share near 1/2 of 500 is 0.022
PLAIN = ["--epochs", str(EPOCHS)]
ONCE = ["--epochs", "1"]
SMALL = [
    *ONCE,
    "--augment.progressive_resizing.64",
    "0.5",
    "--augment.progressive_resizing.96",
    "0.5",
]
SAID = ["--precision.dtype", "bfloat16", "--precision.channels-last"]
SAID += ["--precision.matmul", "highest", "--precision.threads", "0", "--precision.no-compile"]
HOW = {
    "thalweg": PLAIN,
    "thalweg, one pass": ONCE,
    "thalweg, one small pass": SMALL,
    "thalweg, knowing": [*SMALL, *SAID],
}
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
    best = max(figures[name]["accuracy"] for name in LIMITS)
    ours = {name: _compared(figures, name, best) for name in HOW}
    said = [f"{name}: {found['said']}" for name, found in ours.items()]
    return {
        "claim": "C4",
        "goal": ", ".join(f"≥ {1 / limit:.0f} × {name}" for name, limit in LIMITS.items()),
        "measured": "; ".join(said) + f"; best accuracy of the peers {best:.3f}",
        "held": any(found["held"] for found in ours.values()),
        "n": len(runs["thalweg"]),
        "runs": figures,
        "ours": ours,
        "limits": LIMITS,
    }


def _compared(figures: dict[str, dict[str, float]], name: str, best: float) -> dict[str, Any]:
    """One of ours beside each peer as it comes, and beside it with its better flags."""
    mine = figures[name]
    times = {peer: round(found["wall"] / mine["wall"], 2) for peer, found in figures.items()}
    is_as_good = mine["accuracy"] >= best - NOISE
    said = ", ".join(f"{times[peer]} × {peer}" for peer in LIMITS)
    return {
        "their time to ours": {peer: times[peer] for peer in times if peer[:7] != "thalweg"},
        "as accurate": is_as_good,
        "said": f"{said} at {mine['accuracy']:.3f}",
        "held": is_as_good and all(times[peer] >= 1 / limit for peer, limit in LIMITS.items()),
    }


def _round(folder: Path, place: Path) -> dict[str, dict[str, Any]]:
    """One run of each; the order is fixed, the rounds follow each other."""
    out = place / "model"
    found = {name: _ours(folder, place / name, how) for name, how in HOW.items()}
    for name in LIMITS:
        found[name] = peer(f"{name}_folder.py", folder, EPOCHS, "plain", out)
        found[f"{name}, knowing"] = peer(f"{name}_folder.py", folder, EPOCHS, "knowing", out)
    return found


def _ours(folder: Path, place: Path, how: list[str]) -> dict[str, Any]:
    out = place / "runs"
    options = ["--model", "resnet18", "--model.changes.width", "64", "--image-size", "128"]
    options += ["--batch-size", "64", "--out", str(out), *how]
    script = OURS + "import pathlib; from thalweg.record import RunReader\n"
    script += f"run = max(pathlib.Path({str(out)!r}).iterdir(), key=lambda p: p.stat().st_mtime)\n"
    script += "print(json.dumps({'accuracy': RunReader(run).meta['metrics']['val_accuracy']}))"
    command = [sys.executable, "-c", script, str(folder), *options]
    return process(command, {"THALWEG_CACHE": str(place / "cache")})


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("files_to_model")
