"""What our way of making a step gains: ResNet-18, 128 px, batches of 32, made-up images.

Claim: at least 2.4 × as fast as PyTorch's defaults (float32, NCHW), which is how Lightning, fastai
and timm train on a CPU. A step is forward, backward and the SGD update. Ours is the loop of
`thalweg.training` in the setting that the plan measures and chooses, with freed memory kept. Each
is a process of its own, since what is kept is kept for a whole process; both wait for each other,
with all threads, and only one works at a time. The ratio is that of the medians of wall times,
beside that of the processor's.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from itertools import repeat
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter, process_time

ROUNDS, STEPS, WARM = 7, 3, 2
LEAST, ENOUGH = 3, 90.0  # rounds that there are in any case; seconds after which no other begins
BATCH, SIDE, LIMIT = 32, 128, 2.4


def main() -> dict[str, object]:
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    facts: dict[str, dict[str, object]] = {}
    for name in CONTESTANTS:
        here, there = context.Pipe()
        context.Process(target=_serve, args=(there, name), daemon=True).start()
        there.close()  # so that a contestant that fails ends this, too
        pipes[name] = here
        facts[name] = here.recv()  # ready, before another one begins to measure
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
    began = perf_counter()
    while (done := len(seconds["ours"])) < ROUNDS:
        if done >= LEAST and perf_counter() - began > ENOUGH:
            break
        for name, pipe in pipes.items():
            pipe.send(STEPS)
            seconds[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(0)
    return _figures(seconds) | facts["ours"]


def _figures(seconds: dict[str, list[tuple[float, float]]]) -> dict[str, object]:
    wall = {name: median(pair[0] for pair in pairs) for name, pairs in seconds.items()}
    cpu = {name: median(pair[1] for pair in pairs) for name, pairs in seconds.items()}
    ratio, of_cpu = wall["default"] / wall["ours"], cpu["default"] / cpu["ours"]
    return {
        "claim": "C2",
        "goal": f"≥ {LIMIT:g} × as fast as PyTorch's default",
        "measured": f"{ratio:.2f} ×",
        "n": len(seconds["ours"]),
        "times as fast": round(ratio, 2),
        "times as fast by processor's time": round(of_cpu, 2),
        "images a second": {name: round(BATCH / s, 1) for name, s in wall.items()},
        "processor's ms a step": {name: round(1000 * s) for name, s in cpu.items()},
        "limit": LIMIT,
        "held": ratio >= LIMIT,
    }


def _serve(pipe: Connection, name: str) -> None:
    """Make steps when told to; answer with the median step's wall and processor's seconds."""
    steps, facts = CONTESTANTS[name]()
    for _ in range(WARM):
        next(steps)
    pipe.send(facts)
    while count := pipe.recv():
        found = sorted(_timed(steps) for _ in range(count))
        pipe.send(found[len(found) // 2])


def _timed(steps: Iterator[object]) -> tuple[float, float]:
    wall, cpu = perf_counter(), process_time()
    next(steps)
    return perf_counter() - wall, process_time() - cpu


def _default() -> tuple[Iterator[object], dict[str, object]]:
    import torch
    import torch.nn.functional as F

    model, inputs, targets = _problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def steps() -> Iterator[None]:
        while True:
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield

    return steps(), {}


def _ours() -> tuple[Iterator[object], dict[str, object]]:
    import torch
    import torch.nn.functional as F

    from thalweg.borrow import Subject
    from thalweg.data import Batch
    from thalweg.optim import OPTIMIZERS
    from thalweg.planning.speed.autotune import autotune
    from thalweg.training import train
    from thalweg.training.allocator import keep_freed_memory
    from thalweg.training.numerics import Numerics, inputs_for

    keep_freed_memory()
    model, inputs, targets = _problem()
    subject = Subject(model=model, loss_fn=F.cross_entropy, batches=[Batch(inputs, targets)])
    begin = perf_counter()
    found = autotune(subject, Numerics(channels_last=True), steps=10_000)
    seconds = perf_counter() - begin
    setting = found.chosen
    torch.set_float32_matmul_precision(setting.matmul)
    torch.set_num_threads(setting.threads or torch.get_num_threads())
    model = setting.prepare(model)
    weights = model.named_parameters()
    steps = train(
        model,
        repeat(Batch(inputs_for(setting, inputs), targets)),
        F.cross_entropy,
        optimizer=OPTIMIZERS["sgd"](weights, lr=0.01, weight_decay=0.0, momentum=0.9),
        schedule=lambda progress: 1.0,
        steps=10**6,
        dtype=getattr(torch, setting.dtype),
    )
    cosine = next(row.cosine for row in found.rows if row.numerics == setting)
    facts = {"chosen": str(setting), "seconds to choose": round(seconds, 2)}
    return steps, {**facts, "cosine with float32": cosine}


def _problem():  # torch is loaded by the contestants alone
    import torch

    from thalweg.models import MODELS

    torch.manual_seed(0)
    model = MODELS["resnet18"](10, input_shape=(3, SIDE, SIDE))
    return model, torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(10, (BATCH,))


Contestant = Callable[[], tuple[Iterator[object], dict[str, object]]]
CONTESTANTS: dict[str, Contestant] = {"default": _default, "ours": _ours}


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("training_plan")
