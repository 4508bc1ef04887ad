"""Where a training's CPU seconds go, and what share of the convolution's peak its updates reach.

2,000 + 500 photographs, ResNet-18 of full width, 128 px from the first update on, batches of 64,
SGD (whose operations need no counting), one epoch, in this process.
The peak is that of a 3 × 3 convolution of 128 channels, bfloat16, channels_last, forward, measured
right after it. Both are CPU seconds of all threads, so that other work disturbs them less.
"""

from cProfile import Profile
from pathlib import Path
from pstats import Stats
from tempfile import TemporaryDirectory
from time import process_time

from benchmarks._photographs import photographs

TRAIN, VAL, EPOCHS = 2000, 500, 1
FLOPS = 3.57e9  # of an image's forward and backward pass
CHANNELS, SIDE, IMAGES, REPEATS = 128, 32, 16, 20
PARTS = {  # part → the function that does it, and nothing else
    "loading PyTorch and thalweg": ("api.py", "<module>"),
    "reading files": ("planning/make_plan.py", "read_dataset"),
    "measuring the precision": ("planning/numerics.py", "with_measured_numerics"),
    "updates": ("training/loop.py", "train"),
    "validation": ("runs/session.py", "evaluate"),
    "checkpoints": ("runs/recorder.py", "save"),
    "the watcher's end": ("observe/watch.py", "_complete"),
    "report": ("runs/run.py", "report"),
}


def main() -> dict[str, object]:
    with TemporaryDirectory() as place:
        folder = Path(place) / "photographs"
        photographs(folder, train=TRAIN, val=VAL)
        profile = Profile(process_time)
        begin = process_time()
        profile.runcall(_train, folder, Path(place))
        whole = process_time() - begin
    seconds = {name: round(_seconds(Stats(profile), *at), 2) for name, at in PARTS.items()}
    reached, peak = TRAIN * EPOCHS * FLOPS / seconds["updates"], _peak()
    return {
        "n": 1,
        "CPU seconds": seconds | {"rest": round(whole - sum(seconds.values()), 2), "all": whole},
        "GF a CPU second, updates": round(reached / 1e9),
        "GF a CPU second, peak": round(peak / 1e9),
        "share of the peak": round(reached / peak, 2),
    }


def _train(folder: Path, place: Path) -> None:
    import os

    os.environ["THALWEG_CACHE"] = str(place / "cache")
    from thalweg import api

    edits = {"model.changes": {"width": 64}, "batch.size": 64, "budget.epochs": EPOCHS}
    edits |= {"model.name": "resnet18", "data.image_size": 128, "optimizer.name": "sgd"}
    api.train(folder, edits=edits, out=place / "runs")


def _seconds(stats: Stats, file: str, function: str) -> float:
    return sum(
        row[3]
        for (path, _, name), row in stats.stats.items()  # type: ignore[attr-defined]
        if name == function and path.endswith(f"thalweg/{file}")
    )


def _peak() -> float:
    """Floating-point operations a CPU second."""
    import torch

    shape = (IMAGES, CHANNELS, SIDE, SIDE)
    images = torch.randn(shape, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False, dtype=torch.bfloat16)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in no stub
    best = float("inf")
    with torch.no_grad():
        for _ in range(REPEATS):
            begin = process_time()
            for _ in range(4):
                layer(images)
            best = min(best, (process_time() - begin) / 4)
    return 2 * 9 * CHANNELS**2 * SIDE**2 * IMAGES / best


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("where_time_goes")
