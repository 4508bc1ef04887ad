"""Trainings of two ranks, each watched in one way: what a rank does here no other rank waits for.

Usage: rank_work.py RANK FOLDER CASE...; writes FOLDER/RANK.json: case → findings and weights.
"""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import thalweg
from thalweg.record.quantities import INSTRUMENT_FAILED

STEPS, LONG = 24, 330
PATIENCE = timedelta(seconds=150)  # for the other rank; some import torch slowly on a busy disk


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )


def normalised() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(16, 3),
    )


def batches(rank: int, steps: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    """This rank's batches of one data set: the others' are different ones."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * steps, 32, 6, generator=generator)
    targets = inputs[..., :3].argmax(-1)
    return list(zip(inputs[rank::2], targets[rank::2], strict=True))


def trained(
    model: nn.Module,
    rank: int,
    *,
    watched: bool = True,
    diagnosed: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    call: Callable[[Tensor], Tensor] | None = None,
    data: list[tuple[Tensor, Tensor]] | None = None,
) -> dict[str, Any]:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watcher = thalweg.watch(model, optimizer) if watched else None
    for inputs, targets in data or batches(rank):
        loss = F.cross_entropy((call or model)(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watcher is not None:
            watcher.step(loss)
    digest = blake2b(digest_size=8)
    for weight in model.parameters():
        local = weight.to_local() if hasattr(weight, "to_local") else weight
        digest.update(local.detach().contiguous().numpy().tobytes())
    facts: dict[str, Any] = {"weights": digest.hexdigest()}
    if watcher is None:
        return facts
    if diagnosed:
        diagnosis = watcher.diagnose()
        facts["findings"] = {one.rule: one.summary for one in diagnosis.findings}
        facts["errors"] = [one.rule for one in diagnosis.findings if one.severity == "error"]
        facts["not checked"] = dict(diagnosis.not_checked)
        facts["passed"] = list(diagnosis.passed)
    watcher.close()
    history = watcher.history
    facts["broken"] = sorted(history.by_place(INSTRUMENT_FAILED))
    facts["measured"] = {q.name: len(history.by_place(q)) for q in history}
    return facts


def ddp(rank: int, **how: Any) -> dict[str, Any]:
    return trained(DistributedDataParallel(normalised()), rank, **how)


def fsdp2(rank: int, **how: Any) -> dict[str, Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = network()
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return trained(model, rank, **how)


def tensor_parallel(rank: int, **how: Any) -> dict[str, Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    model = parallelize_module(
        network(), init_device_mesh("cpu", (2,)), {"0": ColwiseParallel(), "2": RowwiseParallel()}
    )
    return trained(model, rank, data=batches(0), **how)


def fsdp1(rank: int, *, original: bool = True, **how: Any) -> dict[str, Any]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(
        network(), use_orig_params=original, device_id=torch.device("cpu")
    )
    return trained(model, rank, **how)


def zero(rank: int, **how: Any) -> dict[str, Any]:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = DistributedDataParallel(network())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1)
    return trained(model, rank, optimizer=optimizer, **how)


def drifting(rank: int) -> dict[str, Any]:
    """The wrapper is forgotten."""
    return trained(network(), rank)


def bypassed(rank: int) -> dict[str, Any]:
    """The wrapper is made, and its module is called."""
    model = DistributedDataParallel(network())
    return trained(model, rank, call=model.module)


def other_labels(rank: int) -> dict[str, Any]:
    model, data = DistributedDataParallel(network()), batches(rank, LONG)
    if rank:
        data = [(inputs, targets.roll(1)) for inputs, targets in data]
    return trained(model, rank, data=data)


def independent(rank: int) -> dict[str, Any]:
    """Two trainings that have nothing to do with each other, from different weights."""
    model = network()
    with torch.no_grad():
        next(model.parameters()).add_(rank)
    return trained(model, rank)


STACKS: dict[str, Callable[..., dict[str, Any]]] = {
    "ddp": ddp,
    "fsdp2": fsdp2,
    "tensor parallel": tensor_parallel,
    "fsdp1": fsdp1,
    "fsdp1, flat": partial(fsdp1, original=False),
    "zero": zero,
}


def in_each_way(name: str, train: Callable[..., dict[str, Any]]) -> dict[str, Callable]:
    """Unwatched, watched on every rank, on the first alone, and diagnosed on the first alone."""
    return {
        name: train,
        f"{name}; plain": partial(train, watched=False),
        f"{name}; first rank": lambda rank: train(rank, watched=rank == 0),
        f"{name}; diagnosed by one": lambda rank: train(rank, diagnosed=rank == 0),
    }


CASES: dict[str, Callable[[int], dict[str, Any]]] = {
    case: work for name, train in STACKS.items() for case, work in in_each_way(name, train).items()
} | {
    "drifting": drifting,
    "bypassed": bypassed,
    "one set of batches": lambda rank: trained(
        DistributedDataParallel(network()), rank, data=batches(0)
    ),
    "other labels": other_labels,
    "long and sound": lambda rank: trained(
        DistributedDataParallel(network()), rank, data=batches(rank, LONG)
    ),
    "independent": independent,
}


def main(rank: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=PATIENCE)
    facts = {}
    for name in names or CASES:
        try:
            facts[name] = CASES[name](rank)
        except Exception as error:
            facts[name] = {"failed": f"{type(error).__name__}: {error}"}
        (folder / f"{rank}.json").write_text(json.dumps(facts), encoding="utf-8")
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
