"""A folder of 10,000 photographs → the first training batch; seconds from exec, nothing cached.

Claim: at most 1/3 of fastai's time. Random crops to 128 px, flips, normalised, batches of 64: what
both give a network to train on. Each run is a process of its own, its imports included; the files
are in the system's memory for both. Ours begins as `thalweg train` does: another process looks at
the files while this one loads PyTorch; its processor's seconds are counted, too. Beside it the time
of our first update, the measurement of the precision included. Interleaved, medians, two threads;
BENCHMARK_REPEATS says how often.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks._peers import peer, process
from benchmarks._rounds import medians, on_photographs

TRAIN, VAL, REPEATS, LIMIT = 8000, 2000, 5, 1 / 3
OURS = """
import json, os, sys
from thalweg.loading import pause_collector
from thalweg.data.images.survey_process import survey_in_background
with survey_in_background(sys.argv[1], size=128):  # this much as `thalweg train` begins
    with pause_collector(freeze=True):
        from thalweg.api import train
        from thalweg.planning.make_plan import make_plan
    edits = {"model.name": "resnet18", "data.image_size": 128, "batch.size": 64}
    batch = next(make_plan(sys.argv[1], edits, overlap=True).training_batches().stream())
print(json.dumps({"shape": list(batch.inputs.shape)}), flush=True)
os._exit(0)
"""
FIRST_UPDATE = """
import json, os, sys, threading, time
from thalweg.loading import pause_collector
from thalweg.data.images.survey_process import survey_in_background
with survey_in_background(sys.argv[1], size=128):
    with pause_collector(freeze=True):
        from thalweg.api import Progress, train
    progress = Progress()
    def tell():
        while progress.step < 1:
            time.sleep(0.005)
        print(json.dumps({"step": progress.step}), flush=True)
        os._exit(0)
    threading.Thread(target=tell, daemon=True).start()
    options = {"model": "resnet18", "image_size": 128, "batch_size": 64}
    train(sys.argv[1], out=sys.argv[2], progress=progress, **options)
"""


def main() -> dict[str, Any]:
    runs = on_photographs(_round, train=TRAIN, val=VAL, repeats=REPEATS)
    figures = medians(runs, "wall", "cpu")
    ratio = figures["thalweg"]["wall"] / figures["fastai"]["wall"]
    seconds = f"{figures['thalweg']['wall']:.2f} s, fastai {figures['fastai']['wall']:.2f} s"
    return {
        "claim": "C9",
        "goal": "≤ 1/3 of fastai's time",
        "measured": f"{ratio:.2f}: {seconds}",
        "n": len(runs["thalweg"]),
        "seconds": figures,
        "ours to fastai's": round(ratio, 3),
        "limit": LIMIT,
        "held": ratio <= LIMIT,
    }


def _round(folder: Path, place: Path) -> dict[str, dict[str, Any]]:
    def ours(script: str, name: str) -> dict[str, Any]:
        cache = {"THALWEG_CACHE": str(place / f"cache-{name}")}
        return process([sys.executable, "-c", script, str(folder), str(place / "runs")], cache)

    return {
        "thalweg": ours(OURS, "batch"),
        "fastai": peer("fastai_first_batch.py", folder),
        "thalweg, first update": ours(FIRST_UPDATE, "update"),
    }


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("first_batch")
