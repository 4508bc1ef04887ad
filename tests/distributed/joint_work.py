"""What the ranks of test_distributed.py do; `python joint_work.py FOLDER` is one of them.

In float64, so that nothing but a mistake makes a difference.
"""

import os
import sys
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data import Batch
from thalweg.data.batch import cut_batch, part_of
from thalweg.distributed.data_parallel import DataParallel, prepare_for_ranks
from thalweg.distributed.ranks import process_group
from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.training.loop import train

SIZES = (8, 7, 6, 1, 5, 8)  # of batches: equal parts, unequal ones, an empty one
LEAST = {"vectors": 2}  # one sample has no variance


def networks():
    """With batch norm over maps and over vectors, without weights of its own, and with none."""
    torch.manual_seed(0)
    plain = [nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12, affine=False, momentum=None)]
    return {
        "convnet": MODELS["convnet"](4, input_shape=(1, 8, 8), width=8, norm="batch"),
        "vectors": nn.Sequential(*plain, nn.ReLU(), nn.Linear(12, 4)),
        "mlp": MODELS["mlp"](4, input_shape=(1, 8, 8)),
    }


def stream(least):
    for number in range(1000):
        generator = torch.Generator().manual_seed(number)
        rows = max(least, SIZES[number % len(SIZES)])
        inputs = 3 + torch.randn(rows, 1, 8, 8, generator=generator, dtype=torch.float64)
        yield Batch(inputs, torch.randint(4, (rows,), generator=generator))


def trained(model, ranks, *, least=1, until=1.0, **options):
    """Losses, logits and weights of some updates; the first weight's end after that share."""
    model = model.double()
    joint = prepare_for_ranks(model, ranks)
    made = OPTIMIZERS["sgd"](model.named_parameters(), lr=0.05, weight_decay=0.01, momentum=0.9)
    made.add_param_group(
        {**made.param_groups[0], "params": [made.param_groups[0]["params"].pop(0)]}
    )
    made.param_groups[-1]["until"] = until
    seen = []
    together = DataParallel(model, joint, some_unused=until < 1) if not ranks.is_alone else None
    parts = (cut_batch(batch, rank=ranks.rank, count=ranks.count) for batch in stream(least))
    steps = train(
        together or model,
        together.count_rows(parts) if together else parts,
        F.cross_entropy,
        optimizer=made,
        schedule=SCHEDULES["cosine"](0.3),
        steps=len(SIZES),
        **options,
    )
    for step in steps:
        deepcopy(model).train()(torch.zeros(4, 1, 8, 8, dtype=torch.float64))  # waits for nobody
        seen.append((step.loss, step.logits))
    return {"seen": seen, "weights": dict(model.state_dict())}


def all_of(ranks):
    """Every network, and the options of the loop on one of them."""
    found = {
        name: trained(model, ranks, least=LEAST.get(name, 1)) for name, model in networks().items()
    }
    model = networks()["mlp"]
    weights = list(model.parameters())
    return found | {
        "accumulated": trained(networks()["convnet"], ranks, accumulate=2),
        "resting": trained(networks()["convnet"], ranks, until=0.5),
        "clipped": trained(networks()["convnet"], ranks, max_grad_norm=0.1),
        "penalised": trained(
            model, ranks, penalty=lambda: 0.1 * sum(weight.square().sum() for weight in weights)
        ),
    }


def decisions(ranks):
    """What is said by the first rank alone, as every rank hears it."""
    return {
        "value": ranks.from_first({"start": 7} if ranks.is_first else None),
        "agreed": [
            ranks.decision_of_first(ranks.is_first),
            ranks.decision_of_first(not ranks.is_first),
        ],
        "gathered": ranks.to_first(ranks.rank),
        "part": tuple(part_of(7, rank=ranks.rank, count=ranks.count)),
        "threads": torch.get_num_threads(),
    }


def main():
    folder = Path(sys.argv[1])
    with process_group() as ranks:
        torch.save({"found": all_of(ranks), **decisions(ranks)}, folder / f"{ranks.rank}.pt")
        (folder / "ready").touch()
        if len(sys.argv) > 2 and not ranks.is_first:
            os._exit(int(sys.argv[2]))


if __name__ == "__main__":
    main()
