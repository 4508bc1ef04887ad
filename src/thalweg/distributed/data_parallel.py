"""One model trained by several processes, each on its part of a batch: the result of one process.

Every rank makes the inputs of its part of a batch, computes their outputs, and gathers those of
all. So each knows the loss of the whole batch, whatever the loss is and however unequal the parts
are, and the gradients that DistributedDataParallel averages add up to that loss's gradient.
"""

import inspect
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from thalweg.data import Batch, Batches
from thalweg.data.batch import part_of
from thalweg.distributed.ranks import Joint, Ranks
from thalweg.distributed.synced_norm import is_synced, synced
from thalweg.optim.ema import WeightAverage
from thalweg.tasks import Task
from thalweg.training.evaluate import Evaluation, evaluate, judged, outputs


def united(model: nn.Module, ranks: Ranks) -> Joint:
    """Make the model ready for joint passes, in place; its weights remain the same objects.

    Batch norms are synchronised, and its outputs become those of all ranks. Whoever looks at it by
    hooks, put on later, sees this rank's part go in and the whole batch's outputs come out. Passes
    of the model itself, or of a copy, are this rank's own affair, as before.
    """
    joint = Joint(ranks)
    if not ranks.is_alone:
        synced(model, joint)
        model.register_forward_hook(_Gathered(joint))
    return joint


class Together(nn.Module):
    """Takes this rank's part of a batch, computes its outputs, returns those of the whole batch.

    The model is one that is `united`. Every rank's weights become rank 0's. `some_rest`: some
    weights get no gradient in some steps, which is then looked for in each.
    """

    def __init__(self, model: nn.Module, joint: Joint, *, some_rest: bool = False) -> None:
        super().__init__()
        self._joint, self._rows = joint, 0
        self._parallel = _parallel(model, some_rest=some_rest)

    def noted(self, parts: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, of whose inputs this rank has its part; the next pass is of the last one."""
        for batch in parts:
            self._rows = len(batch.targets)
            yield batch

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of the whole batch, on every rank, with a graph of this rank's part alone."""
        with self._joint.of(self._rows):
            return self._parallel(inputs)


def share_state(
    optimizer: torch.optim.Optimizer, average: WeightAverage | None, ranks: Ranks
) -> None:
    """Every rank's optimizer and average become rank 0's. The weights do so in `Together`."""
    held = None if average is None else average.average
    state, average_of_first = ranks.from_first((optimizer.state_dict(), held))
    if ranks.is_first:
        return
    optimizer.load_state_dict(state)
    if average is not None:
        average.load(average_of_first)


def with_own_chance(
    stream: Iterator[Batch], ranks: Ranks, *, seed: int, start: int
) -> Iterator[Batch]:
    """The batches; before each, a rank but the first begins anew with random numbers of its own.

    Else all ranks would drop the same units. They follow from (seed, batch, rank), so that a run
    that is resumed goes on as if it had not been stopped.
    """
    for number, batch in enumerate(stream, start):
        if not ranks.is_first:
            torch.manual_seed(hash((seed, number, ranks.rank)) & (2**63 - 1))
        yield batch


def evaluate_together(
    model: nn.Module, batches: Batches, task: Task, *, ranks: Ranks, dtype: torch.dtype
) -> Evaluation | None:
    """What `evaluate` finds, each rank computing some of the batches; on rank 0, None elsewhere."""
    if ranks.is_alone:
        return evaluate(model, batches, task, dtype=dtype)
    own = outputs(model, batches.every(ranks.rank, ranks.count), dtype=dtype)
    found = ranks.to_first([tuple(tensor.cpu() for tensor in pair) for pair in own])
    if not ranks.is_first:
        return None
    rounds = range(max(map(len, found)))
    return judged([part[turn] for turn in rounds for part in found if turn < len(part)], task)


class _Gathered:
    """The hook that puts the outputs of all ranks in the place of this rank's."""

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
    """The parts of all ranks, one after the other.

    Each rank has the loss of the whole; the gradient is multiplied by the number of ranks since
    it will be divided by it, when DistributedDataParallel takes the mean.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int, ranks: Ranks) -> Tensor:
        ctx.part, ctx.count = part_of(rows, rank=ranks.rank, count=ranks.count), ranks.count
        most = -(-rows // ranks.count)  # collectives want equal parts
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


def _parallel(model: nn.Module, *, some_rest: bool) -> DistributedDataParallel:
    """Sends rank 0's buffers at each pass where there are some beside those of batch norms."""
    others = (part for part in model.modules() if not is_synced(part))
    needed = any(True for _ in chain.from_iterable(part.buffers(recurse=False) for part in others))
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers"  # what torch 2.13 calls `broadcast_buffers`
    options: dict[str, Any] = {name if name in known else "broadcast_buffers": needed}
    return DistributedDataParallel(model, find_unused_parameters=some_rest, **options)
