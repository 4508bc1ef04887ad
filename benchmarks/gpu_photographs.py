"""ResNet-50 at 224 px on a GPU, from a folder of JPEGs: images a second, beside made-up images.

Claim: at least 0.95 × the images a second of the same steps on one batch that stays on the device.
The run from JPEG is `thalweg.train` as it comes but for model, size and batch, with an empty cache:
its training time holds the first epoch, in which the files are decoded, and the watcher's readings.
Beside it, in the peers' environment and in turns: timm (its loader with prefetching, its
augmentation at rest but for crop and flip, bfloat16, channels_last) and Lightning with ImageFolder
(bf16-mixed, a worker a core), two epochs each, the second timed.
"""

import json
import os
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import _gpu
from benchmarks._peers import named_python, peer, process
from benchmarks._photographs import photographs

TRAIN, VAL, EPOCHS, BATCH, SIDE, TURNS, LIMIT = 20_000, 500, 5, 256, 224, 3, 0.95
PEERS = ("timm", "lightning")
OURS = """
import json, sys
from itertools import repeat
from time import perf_counter
import torch
import thalweg
from thalweg.planning.make_plan import make_plan
from thalweg.planning.numerics import with_measured_numerics
from thalweg.planning.progress import Progress
from thalweg.training.deferred_loss_check import deferred_loss_check
from thalweg.training.loop import train as updates
data, out, wishes, steps = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
run = thalweg.train(data, out=out, edits=wishes)
ready = with_measured_numerics(make_plan(data, wishes), Progress())
size = ready.recipe.batch.size
seconds = run.reader.meta["time_spent"]["training"]
found = {"from JPEG": ready.steps * size / seconds}
model = ready.build_model()
optimizer = ready.build_optimizer(model)
batch = next(ready.training_stream())
with ready.numerics.in_effect():
    made = updates(
        model, repeat(batch), ready.task.loss_fn,
        optimizer=optimizer, schedule=lambda progress: 1e-3,
        steps=2 * steps, dtype=ready.dtype, deferred=deferred_loss_check(optimizer),
    )
    for step in made:
        if step.index + 1 == steps:  # one half warms up
            step.loss.item()
            begin = perf_counter()
    step.loss.item()
found["made-up"] = steps * size / (perf_counter() - begin)
if torch.cuda.is_available():
    torch.cuda.empty_cache()
    batches = ready.training_batches().stream(prefetch=True)
    for _ in range(3):
        next(batches)
    torch.cuda.synchronize()
    begin = perf_counter()
    for _ in range(steps):
        next(batches)
    torch.cuda.synchronize()
    found["batches alone"] = steps * size / (perf_counter() - begin)
print(json.dumps(found | {"computes in": str(ready.numerics)}))
"""


def main() -> dict[str, Any]:
    device, tiny = _gpu.device(), _gpu.is_tiny()
    train, val, side, batch = (40, 10, 32, 8) if tiny else (TRAIN, VAL, SIDE, BATCH)
    runs: dict[str, list[dict[str, Any]]] = {}
    with TemporaryDirectory() as place:
        folder = Path(place) / "photographs"
        photographs(folder, train=train, val=val, side=side)
        shape: dict[str, Any] = {"size": side, "batch": batch, "device": device}
        for turn in range(1 if tiny else TURNS):
            found = {"thalweg": _ours(folder, Path(place) / str(turn), **shape)}
            for name in PEERS if named_python() else ():
                found[name] = peer("photographs.py", name, folder, json.dumps(shape | _model()))
            for name, one in found.items():
                runs.setdefault(name, []).append(one)
    return judged(runs)


def judged(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    mine = runs["thalweg"]
    share = median(one["from JPEG"] / one["made-up"] for one in mine)
    kinds = ("from JPEG", "made-up", "batches alone")
    figures = {
        f"thalweg, {kind}": round(median(one[kind] for one in mine), 1)
        for kind in kinds
        if kind in mine[0]
    }
    figures |= {
        name: round(median(o["rate"] for o in runs[name]), 1) for name in PEERS if name in runs
    }
    result = {
        "n": len(mine),
        "images a second": figures,
        "computes in": mine[0]["computes in"],
        "limit": LIMIT,
        **_gpu.about(),
    }
    if _gpu.is_tiny():
        return result | {"tiny": True}
    beside = "".join(
        f", {figures['thalweg, from JPEG'] / figures[name]:.1f} × {name}"
        for name in PEERS
        if name in runs
    )
    return result | {
        "claim": "G3",
        "goal": f"≥ {LIMIT} × its speed on made-up images",
        "measured": f"{share:.2f} ×: {figures['thalweg, from JPEG']:.0f} images/s{beside}",
        "held": share >= LIMIT,
    }


def _model() -> dict[str, object]:
    if _gpu.is_tiny():
        return {"model": "resnet18", "workers": 1}
    return {"model": "resnet50", "workers": len(os.sched_getaffinity(0))}


def _ours(folder: Path, place: Path, *, size: int, batch: int, device: str) -> dict[str, Any]:
    wishes = {
        "model.name": _model()["model"],
        "data.image_size": size,
        "batch.size": batch,
        "device": device,
        "budget.epochs": 1 if _gpu.is_tiny() else EPOCHS,
        "transfer.method": "none",
    }
    steps = 2 if _gpu.is_tiny() else 60
    command = [sys.executable, "-c", OURS, str(folder), str(place / "runs")]
    return process(
        [*command, json.dumps(wishes), str(steps)], {"THALWEG_CACHE": str(place / "cache")}
    )


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("gpu_photographs")
