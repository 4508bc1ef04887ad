"""Batches of augmented photographs from the second epoch on: random crops of 128 px, flipped and
normalised, in batches of 64.

Claim: at least 10 × as many a second as torchvision's ImageFolder through a DataLoader with two
workers, set up as its documentation does (their processes persist, so that no start counts). Beside
it the same with the flags of somebody who knows: torchvision's decoder, transforms on eight bits.
Ours are the training batches of a run, from the cache that the first epoch filled, made by two
threads, and by none. One epoch of each in turn over the same 2,048 files; medians, wall and
processor's µs an image. An absolute guide: FFCV delivers 1,800 raw images of 256 px a second and
core (its docs/benchmarks.rst).

The pictures are 160 px. Theirs are cut from all of it; ours from a copy of 128 px, and so small
crops hold less detail. The filter is the same: bilinear, antialiased, whole pixels, eight bits.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks._peers import SCRIPTS, peer_python
from benchmarks._photographs import photographs

TRAIN, VAL, BATCH, SIDE, REPEATS, LIMIT = 2048, 64, 64, 128, 5, 10.0
Seconds = dict[str, float]  # "wall" and "cpu" of an epoch


def main(repeats: int = REPEATS) -> dict[str, object]:
    python = peer_python()
    with TemporaryDirectory() as place:
        photographs(Path(place), train=TRAIN, val=VAL)
        peers = {how: _Peer(python, Path(place) / "train", how) for how in ("plain", "knowing")}
        contestants: dict[str, Callable[[], Seconds]] = {
            "thalweg": _ours(Path(place), threads=2),
            "thalweg, no threads": _ours(Path(place), threads=0),
            **{f"ImageFolder, {how}": one.epoch for how, one in peers.items()},
        }
        found: dict[str, list[Seconds]] = {name: [] for name in contestants}
        for _ in range(repeats):
            for name, epoch in contestants.items():
                found[name].append(epoch())
        for one in peers.values():
            one.close()
    return _figures(found)


def _figures(found: dict[str, list[Seconds]]) -> dict[str, object]:
    def micro(name: str, kind: str) -> float:
        return median(epoch[kind] for epoch in found[name]) / TRAIN * 1e6

    wall = {name: micro(name, "wall") for name in found}
    cpu = {name: micro(name, "cpu") for name in found}
    times = {name: round(us / wall["thalweg"], 1) for name, us in wall.items()}
    plain, knowing = times["ImageFolder, plain"], times["ImageFolder, knowing"]
    return {
        "claim": "C5",
        "goal": f"≥ {LIMIT:g} × ImageFolder's",
        "measured": f"{plain} ×; {knowing} × with its best flags",
        "n": min(map(len, found.values())),
        "µs an image": {name: round(us, 1) for name, us in wall.items()},
        "processor's µs an image": {name: round(us, 1) for name, us in cpu.items()},
        "images a second": round(1e6 / wall["thalweg"]),
        "images a second and core": round(1e6 / cpu["thalweg"]),
        "times as fast": times,
        "times by processor's time": {n: round(us / cpu["thalweg"], 1) for n, us in cpu.items()},
        "limit": LIMIT,
        "held": plain >= LIMIT,
    }


def _ours(folder: Path, *, threads: int) -> Callable[[], Seconds]:
    os.environ["THALWEG_CACHE"] = str(folder / "cache")
    import torch

    from thalweg.data import Augment, Batches, load_dataset
    from thalweg.data.prefetch import prefetch_batches
    from thalweg.training.allocator import keep_freed_memory

    keep_freed_memory()  # as a training does
    cpu = torch.device("cpu")
    augment = Augment(flip=True, crop_scale=0.35)
    dataset = load_dataset(folder, image_size=SIDE)
    batches = Batches(dataset, "train", batch_size=BATCH, shuffle=True, augment=augment)

    def epoch() -> Seconds:
        wall, used = perf_counter(), process_time()
        stream = batches.stream()
        if threads:
            # One that begins at a number yields that batch first: any thread may make any.
            stream = prefetch_batches(
                lambda n: next(batches.stream(n)), 0, threads=threads, device=cpu
            )
        with closing(stream):
            for _ in islice(stream, len(batches)):
                pass
        return {"wall": perf_counter() - wall, "cpu": process_time() - used}

    epoch()  # the first is not counted, as with the others
    return epoch


class _Peer:
    """ImageFolder in its own environment, which makes an epoch when it is told to."""

    def __init__(self, python: str, folder: Path, how: str) -> None:
        command = [python, str(SCRIPTS / "imagefolder_batches.py"), str(folder), how]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def epoch(self) -> Seconds:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate()  # the end of its input ends it

    def _answer(self) -> Seconds:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            sys.exit("the peer ended before its time")
        found: Seconds = json.loads(line)
        return found


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("input_pipeline")
