"""Data-parallel training: several processes, each on its part of a batch, train as one would.

Every rank loads its part of a batch, computes the outputs, and gathers the outputs of all ranks. So
each knows the loss of the whole batch, for any loss and for unequal parts, and the gradients that
DistributedDataParallel averages add up to the gradient of that loss.
"""

import inspect
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from thalweg.borrow import seed_torch
from thalweg.data import Batch, Batches
from thalweg.data.batch import part_of
from thalweg.distributed.ranks import Joint, Ranks
from thalweg.distributed.synced_norm import is_synced, synchronise_norms
from thalweg.optim.ema import WeightAverage
from thalweg.tasks import Task
from thalweg.training.evaluate import Evaluation, evaluate, evaluate_outputs, predict_batches


def prepare_for_ranks(model: nn.Module, ranks: Ranks) -> Joint:
    """Prepare the model for joint forward passes, in place; its weights stay the same objects.

    Its batch norms are synchronised, and a hook gathers the outputs of all ranks. Hooks added later
    see this rank's inputs and the outputs of the whole batch. Forward passes of the model outside
    `DataParallel`, or of a copy, involve this rank alone, as before.
    """
    joint = Joint(ranks)
    if not ranks.is_alone:
        synchronise_norms(model, joint)
        model.register_forward_hook(_GatherOutputs(joint))
    return joint


class DataParallel(nn.Module):
    """Maps this rank's part of a batch to the outputs of the whole batch.

    The model is one that `prepare_for_ranks` has prepared. Every rank's weights become rank 0's.
    `some_unused`: some weights get no gradient in some steps, so each step looks for them.
    """

    def __init__(self, model: nn.Module, joint: Joint, *, some_unused: bool = False) -> None:
        super().__init__()
        self._joint, self._rows = joint, 0
        self._parallel = _parallel(model, some_unused=some_unused)

    def count_rows(self, parts: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and remember how many rows the whole of the last one has."""
        for batch in parts:
            self._rows = len(batch.targets)
            yield batch

    def forward(self, *inputs: Tensor, **group: Tensor) -> Tensor:
        """Outputs of the whole batch, on every rank, with a graph of this rank's part alone."""
        with self._joint.forward_pass(self._rows):
            return self._parallel(*inputs, **group)


def share_state(
    optimizer: torch.optim.Optimizer, average: WeightAverage | None, ranks: Ranks
) -> None:
    """Copy rank 0's optimizer state and weight average to all ranks."""
    own_average = None if average is None else average.average
    state, average_of_first = ranks.from_first((optimizer.state_dict(), own_average))
    if ranks.is_first:
        return
    optimizer.load_state_dict(state)
    if average is not None:
        average.load(average_of_first)


def with_rank_seeds(
    stream: Iterator[Batch], ranks: Ranks, *, seed: int, start: int
) -> Iterator[Batch]:
    """Yield the batches, seeding every rank but the first before each.

    Otherwise dropout would drop the same units on all ranks. The seed follows from (seed, batch,
    rank), so a resumed run continues as if it had not stopped.
    """
    for number, batch in enumerate(stream, start):
        if not ranks.is_first:
            seed_torch(hash((seed, number, ranks.rank)) & (2**63 - 1))
        yield batch


def evaluate_together(
    model: nn.Module, batches: Batches, task: Task, *, ranks: Ranks, dtype: torch.dtype
) -> Evaluation | None:
    """Evaluate as `evaluate` does, each rank on some of the batches; None on all ranks but 0."""
    if ranks.is_alone:
        return evaluate(model, batches, task, dtype=dtype)
    own = predict_batches(model, batches.every(ranks.rank, ranks.count), task, dtype=dtype)
    per_rank = ranks.to_first([tuple(tensor.cpu() for tensor in pair) for pair in own])
    if not ranks.is_first:
        return None
    rounds = range(max(map(len, per_rank)))
    return evaluate_outputs(
        [part[turn] for turn in rounds for part in per_rank if turn < len(part)], task
    )


class _GatherOutputs:
    """Forward hook that replaces this rank's outputs by those of all ranks."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def __call__(self, model: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        if not self._joint.rows:
            return None
        gathered: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
            output, self._joint.rows, self._joint.ranks
        )
        return gathered


class _Gather(torch.autograd.Function):
    """Concatenates the parts of all ranks.

    Each rank has the loss of the whole batch. The gradient is multiplied by the number of ranks,
    since DistributedDataParallel divides by it when it averages.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int, ranks: Ranks) -> Tensor:
        ctx.part, ctx.count = part_of(rows, rank=ranks.rank, count=ranks.count), ranks.count
        most = -(-rows // ranks.count)  # collectives need equal parts
        padded = part.new_zeros(most, *part.shape[1:])
        padded[: len(part)] = part
        every = part.new_empty(ranks.count, *padded.shape)
        dist.all_gather(list(every), padded)
        parts = [part_of(rows, rank=rank, count=ranks.count) for rank in range(ranks.count)]
        return torch.cat(
            [each[: part.end - part.begin] for each, part in zip(every, parts, strict=True)]
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0][ctx.part.begin : ctx.part.end] * ctx.count, None, None


def _parallel(model: nn.Module, *, some_unused: bool) -> DistributedDataParallel:
    """DistributedDataParallel that broadcasts buffers only if other layers than norms have some."""
    others = (part for part in model.modules() if not is_synced(part))
    needed = any(True for _ in chain.from_iterable(part.buffers(recurse=False) for part in others))
    parameters = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers"  # what torch 2.13 calls `broadcast_buffers`
    options: dict[str, Any] = {name if name in parameters else "broadcast_buffers": needed}
    return DistributedDataParallel(model, find_unused_parameters=some_unused, **options)
