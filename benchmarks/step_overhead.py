"""What our loop, batches and watcher cost a step, against a raw loop that indexes two tensors.

Claim: with the default instruments at most 1.03 × the raw loop, on a 784-128-10 network with
batches of 32, the same optimizer in all but one. Every contestant is a whole run of `STEPS`
updates, so the watcher's early readings and its last flush count. Runs are interleaved, in an order
that changes; a figure is the median over `REPEATS`, a ratio the median of ratios to the raw run
of the same round. CPU seconds stand beside wall seconds: neighbours disturb them less. One thread.
"""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from thalweg.data import Batches, Dataset, load_dataset
from thalweg.models import MODELS
from thalweg.observe import watch
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.training import train

SAMPLES, FEATURES, CLASSES, BATCH = 8192, 784, 10, 32
STEPS, REPEATS, LIMIT = 4000, 9, 1.03
ORDERS = 4  # rounds in which each contestant has been first, second, third and last
PLAIN = "raw, SGD as it comes"  # what loops beside other trainers are compared by


def main() -> dict[str, object]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _measured(_dataset())
    finally:
        torch.set_num_threads(before)
    found = _figures(seconds)
    return {
        "claim": "C1",
        "goal": f"≤ {LIMIT} × a raw loop's CPU time",
        "measured": f"{found['loop, watched: cpu ratio']} ×",
        "n": REPEATS,
        "steps a run": STEPS,
        "limit": LIMIT,
        **found,
    }


def _dataset() -> Dataset:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(SAMPLES, FEATURES)).astype(np.float32)
    targets = rng.integers(CLASSES, size=SAMPLES)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npz"
        np.savez(path, x=inputs, y=targets)
        return load_dataset(path, val_fraction=0.1)


def _raw(dataset: Dataset, *, plain: bool = False) -> Callable[[], object]:
    """What anybody would write who cares about speed; `plain` with PyTorch's SGD as it comes."""
    rows = dataset.indices["train"]
    inputs = dataset.preprocessing.to_inputs(torch.from_numpy(np.asarray(dataset.inputs)[rows]))
    targets = torch.from_numpy(dataset.targets[rows])
    model, optimizer = _model_and_optimizer()
    if plain:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        steps = 0
        while steps < STEPS:
            for picked in torch.randperm(len(inputs)).split(BATCH):
                loss = F.cross_entropy(model(inputs[picked]), targets[picked])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps += 1
                if steps == STEPS:
                    break

    return run


def _ours(dataset: Dataset, *, watched: bool) -> Callable[[], object]:
    batches = Batches(dataset, "train", batch_size=BATCH, shuffle=True)
    model, optimizer = _model_and_optimizer()
    options: dict[str, Any] = {
        "optimizer": optimizer,
        "schedule": SCHEDULES["warmup_linear"](0.05),
        "steps": STEPS,
    }

    def plain() -> None:
        for _ in train(model, batches.stream(), F.cross_entropy, **options):
            pass

    def under_watch() -> None:
        with watch(model, optimizer, task="classification", num_classes=CLASSES) as watcher:
            for step in train(model, batches.stream(), F.cross_entropy, **options):
                watcher.step(step.loss, logits=step.logits, batch=(None, step.targets))

    return under_watch if watched else plain


def _model_and_optimizer() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = MODELS["mlp"](CLASSES, input_shape=(FEATURES,), width=128, depth=1)
    weights = model.named_parameters()
    return model, OPTIMIZERS["sgd"](weights, lr=0.01, weight_decay=0.0, momentum=0.9)


def _measured(dataset: Dataset) -> dict[str, list[tuple[float, float]]]:
    """Contestant → (wall, CPU) seconds of each run, after one run each that is not counted."""
    runs = {
        "raw": _raw(dataset),
        PLAIN: _raw(dataset, plain=True),
        "loop": _ours(dataset, watched=False),
        "loop, watched": _ours(dataset, watched=True),
    }
    for run in runs.values():
        run()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for name in _turns(list(runs)):
        wall, cpu = perf_counter(), process_time()
        runs[name]()
        seconds[name].append((perf_counter() - wall, process_time() - cpu))
    return seconds


def _turns(names: list[str]) -> Iterator[str]:
    for repeat in range(REPEATS):
        first = repeat % ORDERS
        yield from names[first:] + names[:first]


def _figures(seconds: dict[str, list[tuple[float, float]]]) -> dict[str, object]:
    found: dict[str, Any] = {}
    for kind, label in enumerate(("wall", "cpu")):
        raw = [pair[kind] for pair in seconds["raw"]]
        for name, pairs in seconds.items():
            spent = [pair[kind] for pair in pairs]
            ratios = [mine / theirs for mine, theirs in zip(spent, raw, strict=True)]
            found[f"{name}: {label} µs a step"] = round(statistics.median(spent) / STEPS * 1e6, 1)
            found[f"{name}: {label} ratio"] = round(statistics.median(ratios), 3)
    found["held"] = found["loop, watched: cpu ratio"] <= LIMIT
    return found


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("step_overhead")
