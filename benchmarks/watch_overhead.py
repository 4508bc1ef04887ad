"""What `thalweg.watch` costs somebody's own loop, whole runs with and without it.

Claim: at its defaults at most 1.05 × the wall time of a convolutional network's run (of 100 steps
or more) and 1.10 × that of a small MLP's (300 steps or more). Every contestant is a whole run: the
call of `watch`, each `step`, the last flush. "plain" is the raw loop, "watched" has the model and
the optimizer alone, "loss_fn" is told the loss function too, "loaders" also both splits.

A round runs each contestant once, in an order that turns; a ratio is the median of the ratios to
the plain run of the same round. CPU seconds stand beside wall seconds: neighbours disturb them
less. `diagnose()` is timed apart: it is not part of training. The weights must be the same bits.

Environment: WATCH_OVERHEAD_ONLY=mlp|convnet|resnet18 (a comma between several; all),
WATCH_OVERHEAD_STEPS=most steps a run (all), WATCH_OVERHEAD_REPEATS (5), WATCH_OVERHEAD_THREADS (1).
"""

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import thalweg
from thalweg.models import MODELS
from thalweg.observe import Watcher

SAMPLES, CLASSES = 4096, 10
REPEATS = int(os.environ.get("WATCH_OVERHEAD_REPEATS", "5"))
MOST_STEPS = int(os.environ.get("WATCH_OVERHEAD_STEPS", "1000000"))
THREADS = int(os.environ.get("WATCH_OVERHEAD_THREADS", "1"))
TOLD = {"plain": (), "watched": (), "loss_fn": ("loss_fn",), "loaders": ("loss_fn", "train", "val")}


@dataclass(frozen=True)
class Subject:
    """A network, its batches, how long it runs, and the limit that is claimed for it."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    steps: tuple[int, ...]
    limit: float


def mlp() -> nn.Module:
    """784-128-10."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def convnet() -> nn.Module:
    """Three convolutions of 16, 32 and 64 channels, each with batch norm."""
    widths = (3, 16, 32, 64)
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, CLASSES))


SUBJECTS = {
    "mlp": Subject(mlp, (784,), 32, (300, 1000, 3000, 10_000), 1.10),
    "convnet": Subject(convnet, (3, 32, 32), 64, (100, 300, 1000), 1.05),
    "resnet18": Subject(
        partial(MODELS["resnet18"], CLASSES, input_shape=(3, 32, 32)), (3, 32, 32), 64, (100,), 1.05
    ),
}


def main() -> dict[str, object]:
    only = os.environ.get("WATCH_OVERHEAD_ONLY", ",".join(SUBJECTS)).split(",")
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        runs = {
            f"{name}, {steps} steps": _compare(subject, steps)
            for name, subject in SUBJECTS.items()
            if name in only
            for steps in subject.steps
            if steps <= MOST_STEPS
        }
    finally:
        torch.set_num_threads(before)
    held = all(run["held"] and run["same weights"] for run in runs.values())
    return {"n": REPEATS, "threads": THREADS, **runs, "held": held}


@dataclass(frozen=True)
class Timed:
    """One run."""

    wall: float
    cpu: float
    diagnosing: float  # CPU seconds, after the run
    weights: bytes


def _compare(subject: Subject, steps: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    means = torch.randn(CLASSES, *subject.shape, generator=generator)
    inputs = 0.5 * means[targets] + torch.randn(SAMPLES, *subject.shape, generator=generator)
    for name in TOLD:
        _run(subject, (inputs, targets), steps=min(30, steps), name=name)
    found: dict[str, list[Timed]] = {name: [] for name in TOLD}
    names = list(TOLD)
    for repeat in range(REPEATS):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(_run(subject, (inputs, targets), steps=steps, name=name))
    return _figures(found, subject.limit, steps)


def _run(subject: Subject, data: tuple[Tensor, Tensor], *, steps: int, name: str) -> Timed:
    torch.manual_seed(0)
    model = subject.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    split = DataLoader(TensorDataset(*data), subject.batch, shuffle=True)
    about: dict[str, Any] = {"loss_fn": F.cross_entropy, "train": split, "val": split}
    wall, cpu = perf_counter(), process_time()
    watcher = None
    if name != "plain":
        watcher = thalweg.watch(model, optimizer, **{key: about[key] for key in TOLD[name]})
    _train(model, optimizer, data=data, batch=subject.batch, steps=steps, watcher=watcher)
    if watcher is not None:
        watcher.flush()
    wall, cpu = perf_counter() - wall, process_time() - cpu
    weights = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
    began = process_time()
    if watcher is not None:
        watcher.diagnose()
        watcher.close()
    return Timed(wall, cpu, process_time() - began, weights)


def _train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    data: tuple[Tensor, Tensor],
    batch: int,
    steps: int,
    watcher: Watcher | None,
) -> None:
    """The loop that anybody writes; batches are gathered from tensors in memory."""
    inputs, targets = data
    done = 0
    while done < steps:
        for picked in torch.randperm(len(inputs)).split(batch)[: steps - done]:
            loss = F.cross_entropy(model(inputs[picked]), targets[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if watcher is not None:
                watcher.step(loss)
            done += 1


def _figures(found: dict[str, list[Timed]], limit: float, steps: int) -> dict[str, Any]:
    plain = found["plain"]
    figures: dict[str, Any] = {
        "plain: cpu µs a step": round(_median(one.cpu for one in plain) / steps * 1e6, 1)
    }
    for name, runs in found.items():
        if name == "plain":
            continue
        pairs = list(zip(runs, plain, strict=True))
        figures[f"{name}: wall ratio"] = round(_median(a.wall / b.wall for a, b in pairs), 3)
        figures[f"{name}: cpu ratio"] = round(_median(a.cpu / b.cpu for a, b in pairs), 3)
        figures[f"{name}: diagnosing, cpu s"] = round(_median(one.diagnosing for one in runs), 3)
    figures["limit"] = limit
    figures["held"] = all(
        figures[f"{name}: wall ratio"] <= limit for name in TOLD if name != "plain"
    )
    figures["same weights"] = len({one.weights for runs in found.values() for one in runs}) == 1
    return figures


def _median(values: Any) -> float:
    return statistics.median(list(values))


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("watch_overhead")
