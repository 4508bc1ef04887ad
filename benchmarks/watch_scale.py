"""Memory, time and history that `thalweg.watch` takes beside large models and in long runs.

Claim: beyond the unwatched peak at most 64 MiB, or 5 % of the weights' bytes where that is more,
while training and at the end; a reading costs at most one step; after 10⁶ steps the history takes
at most 64 MiB and a diagnosis at most 2 s.

Each figure comes from a process of its own. Memory is the peak of resident memory (VmHWM), once
without and once with the watcher; freed blocks go back to the system at once
(MALLOC_MMAP_THRESHOLD_), else the peak would tell of the C library's heap. The readings of 16 steps
are those of steps 0, 2, 6 and 14. Times are CPU seconds of one thread, which neighbours disturb
less than the clock: a step's is the median of the steps without a reading; a reading's cost is how
much longer the steps with one take, the first one apart, which also probes the untrained model. For
7·10⁹ parameters (28 GB in single precision) the figures are extrapolated: memory in a straight line
through the two larger models, time in steps as of the largest.

Environment: WATCH_SCALE_ONLY=1M|35M|350M (a comma between several; all), WATCH_SCALE_REPEATS (3).
"""

import json
import os
import statistics
import subprocess
import sys
import tracemalloc
from pathlib import Path
from random import Random
from time import process_time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thalweg
from thalweg.observe.reading_schedule import next_reading
from thalweg.record import History
from thalweg.record.quantities import ACCURACY, GRADIENT_NORM, LOSS, UPDATE_RATIO

TINY = os.environ.get("BENCHMARK_TINY") == "1"
REPEATS = 1 if TINY else int(os.environ.get("WATCH_SCALE_REPEATS", "3"))
SIZES = {  # name → vocabulary, width, blocks, sequences of 32 tokens in a batch
    "1M": (1000, 160, 4, 16),
    "35M": (16_000, 512, 9, 4),
    "350M": (50_000, 1024, 30, 1),
}
STEPS, WARM = 16, 2
READINGS = (0, 2, 6, 14)
LONG_RUN, WEIGHTS = (2000, 8) if TINY else (10**6, 200)
MIB = 2**20
LARGE = 7_000_000_000


class Block(nn.Module):
    """A residual block of a transformer, without the attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.narrow(F.gelu(self.wide(self.norm(tokens))))


def language_model(size: str) -> nn.Module:
    vocabulary, width, blocks, _ = SIZES[size]
    layers = [Block(width) for _ in range(blocks)]
    return nn.Sequential(nn.Embedding(vocabulary, width), *layers, nn.Linear(width, vocabulary))


def main() -> dict[str, object]:
    names = os.environ.get("WATCH_SCALE_ONLY", "1M" if TINY else ",".join(SIZES)).split(",")
    sizes = {name: _size(name) for name in names}
    long_run = _child("history")
    held = all(one["held"] for one in sizes.values()) and long_run["held"]
    return {
        "n": REPEATS,
        "tiny": TINY,
        "parameters": sizes,
        f"{LONG_RUN:,} steps": long_run,
        "extrapolated to 7·10⁹ parameters": _extrapolated(list(sizes.values())),
        "held": held,
    }


def _size(name: str) -> dict[str, float]:
    runs = [
        (_child("train", name, "plain"), _child("train", name, "watched")) for _ in range(REPEATS)
    ]

    def median(key: str, which: int) -> float:
        return statistics.median(pair[which][key] for pair in runs)

    weights = runs[0][0]["weights, MiB"]
    limit = max(64.0, 0.05 * weights)
    extra = median("peak, MiB", 1) - median("peak, MiB", 0)
    extra_end = median("peak with diagnosis, MiB", 1) - median("peak, MiB", 0)
    step = median("step, s", 0)
    first, others = median("first step, s", 1) - step, median("reading step, s", 1) - step
    warm_up = median("first step, s", 0) - step
    readings = _readings_before(300)
    return {
        "parameters": runs[0][0]["parameters"],
        "weights, MiB": weights,
        "unwatched peak, MiB": round(median("peak, MiB", 0), 1),
        "more while training, MiB": round(extra, 1),
        "more with the diagnosis, MiB": round(extra_end, 1),
        "limit, MiB": round(limit, 1),
        "step, ms": round(1000 * step, 2),
        "first reading, steps": round((first - warm_up) / step, 2),
        "a later reading, steps": round(others / step, 2),
        "of 300 steps, share": round((first - warm_up + others * (readings - 1)) / (300 * step), 4),
        "diagnosis, s": round(median("diagnosis, s", 1), 2),
        "same weights": len({each["weight sum"] for pair in runs for each in pair}) == 1,
        "held": extra <= limit and extra_end <= limit and others <= step,
    }


def _readings_before(steps: int) -> int:
    count, step = 0, 0
    while step < steps:
        count, step = count + 1, next_reading(step, 20)
    return count


def _extrapolated(sizes: list[dict[str, float]]) -> dict[str, object]:
    if len(sizes) < 2:
        return {}
    small, large = sizes[-2:]
    span = large["parameters"] - small["parameters"]

    def line(key: str) -> float:
        slope = (large[key] - small[key]) / span
        return round(max(0.0, large[key] + slope * (LARGE - large["parameters"])), 1)

    return {
        "weights, MiB": round(4 * LARGE / MIB),
        "more while training, MiB": line("more while training, MiB"),
        "limit, MiB": round(0.05 * 4 * LARGE / MIB),
        "a later reading, steps": large["a later reading, steps"],
    }


def _child(*arguments: str) -> dict[str, float]:
    """What this script prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.watch_scale", *arguments]
    settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    child = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=_ROOT, env=settings
    )
    figures: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return figures


_ROOT = Path(__file__).parent.parent


def train(size: str, kind: str) -> dict[str, float]:
    """One run of 16 steps; with a watcher, its diagnosis at the end."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = language_model(size)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    tokens = torch.randint(SIZES[size][0], (SIZES[size][3], 33))
    watcher = thalweg.watch(model, optimizer) if kind == "watched" else None
    times = []
    for _ in range(STEPS):
        began = process_time()
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watcher is not None:
            watcher.step(loss)
        times.append(process_time() - began)
        del loss
    weights = list(model.parameters())
    count = sum(weight.numel() for weight in weights)
    figures = {"peak, MiB": _peak(), "parameters": count, "weights, MiB": 4 * count / MIB}
    began_diagnosis = process_time()
    if watcher is not None:
        watcher.diagnose()
        watcher.close()
    plain = [t for step, t in enumerate(times) if step >= WARM and step not in READINGS]
    reading = [t for step, t in enumerate(times) if step >= WARM and step in READINGS]
    return figures | {
        "diagnosis, s": process_time() - began_diagnosis,
        "peak with diagnosis, MiB": _peak(),
        "step, s": statistics.median(plain),
        "reading step, s": statistics.median(reading),
        "first step, s": times[0],
        "weight sum": float(sum(weight.detach().double().sum() for weight in weights)),
    }


def history() -> dict[str, float]:
    """The history of a long run: a loss and an accuracy each step, and readings of 200 weights."""
    random, places = Random(0), [f"blocks.{i}.weight" for i in range(WEIGHTS)]
    tracemalloc.start()
    run, due = History(), 0
    for step in range(LONG_RUN):
        run.add(LOSS, step, {"": 2 / (1 + 5 * step / LONG_RUN) + random.gauss(0, 0.05)})
        run.add(ACCURACY, step, {"": random.random()})
        if step == due:
            for quantity in (GRADIENT_NORM, UPDATE_RATIO):
                run.add(quantity, step, {place: random.random() / 1000 for place in places})
            due = next_reading(step, 20)
    memory = tracemalloc.get_traced_memory()[0] / MIB
    tracemalloc.stop()
    began = process_time()
    thalweg.diagnose(run)
    diagnosing = process_time() - began
    return {
        "history, MiB": round(memory, 2),
        "points of the loss": len(run.series(LOSS)),
        "diagnosis, cpu s": round(diagnosing, 3),
        "held": memory <= 64 and diagnosing <= 2,
    }


def _peak() -> float:
    """The most resident memory so far, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["train", size, kind]:
            print(json.dumps(train(size, kind)))
        case ["history"]:
            print(json.dumps(history()))
        case _:
            from benchmarks.__main__ import report

            report("watch_scale")
