"""The processes that train one model together, as torchrun starts them: ranks and their groups.

The default process group (NCCL on GPUs, gloo elsewhere) carries tensors; a second one, of gloo and
with a long timeout, carries the decisions of rank 0.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from thalweg.errors import TrainingError

CONTROL_TIMEOUT = timedelta(days=7)  # rank 0 may read, evaluate and save for long; a death shows
_TORCHRUN_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
_GROUP_ERROR = re.compile(
    r"gloo/transport|connection (was )?(closed|reset|refused)|broken pipe|timed out", re.IGNORECASE
)
Value = TypeVar("Value")


class LostRankError(TrainingError):
    """Another rank died or does not answer, so this one cannot continue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's rank among those that train together; by default it is alone."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # on its machine
    count_here: int = 1  # on its machine
    control: Any = None  # the process group of decisions

    @property
    def is_first(self) -> bool:
        """True for the rank that writes the run and prints."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """True if there is no other rank."""
        return self.count == 1

    def from_first(self, value: Any = None) -> Any:
        """Broadcast rank 0's value to every rank."""
        if self.is_alone:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def to_first(self, value: Any) -> list[Any]:
        """Gather every rank's value on rank 0, in order; an empty list elsewhere."""
        if self.is_alone:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(value, values, dst=0, group=self.control)
        return values or []

    def decision_of_first(self, decision: bool) -> bool:
        """Broadcast rank 0's decision to every rank; the others' argument is ignored."""
        if self.is_alone:
            return decision
        box = torch.tensor([decision], dtype=torch.uint8)
        dist.broadcast(box, src=0, group=self.control)
        return bool(box)

    def first_on_each_machine(self, work: Callable[[], Value]) -> Value:
        """Do the work first in one process of each machine, then in the others; return its result.

        So a cache on the machine's disk is written once, and read by the others.
        """
        if self.is_alone:
            return work()
        result = work() if self.local_rank == 0 else None
        dist.barrier(group=self.control)
        return work() if result is None else result


def is_started() -> bool:
    """Return whether the environment has the variables that torchrun sets."""
    return all(name in os.environ for name in _TORCHRUN_VARIABLES)


def is_one_of_many() -> bool:
    """Return whether this process was started as one of several ranks."""
    return is_started() and int(os.environ["WORLD_SIZE"]) > 1


def is_silent() -> bool:
    """Return whether another rank prints for this one."""
    return is_one_of_many() and os.environ["RANK"] != "0"


def cores_of_a_rank(ranks_here: int) -> int:
    """Cores of this machine for each of `ranks_here` ranks, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, ranks_here))


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the process group that this process was started for; leave it at the end.

    With GPUs, rank number `local_rank` gets the GPU of that number; else each rank gets its share
    of the cores. Raises: LostRankError if another rank is lost.
    """
    local, here = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    torch.set_num_threads(cores_of_a_rank(here))
    with lost_rank_errors():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        control = dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
        rank, count = dist.get_rank(), dist.get_world_size()
        yield Ranks(rank=rank, count=count, local_rank=local, count_here=here, control=control)
    dist.destroy_process_group()  # not after an error: the process ends at once


@contextmanager
def lost_rank_errors() -> Iterator[None]:
    """Turn the error of a collective whose peer is lost into a LostRankError."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        of_group = isinstance(error, dist.DistError) or _GROUP_ERROR.search(text)
        if isinstance(error, TrainingError) or not of_group:
            raise
        raise LostRankError(
            "another rank of the training died or does not answer",
            seen=f"rank {os.environ.get('RANK')} on {socket.gethostname()}: {text[:200]}",
            fix="read that rank's output; --resume continues from the last checkpoint",
        ) from error


class Joint:
    """Holds the number of rows of a joint forward pass of all ranks; 0 outside of one.

    A copy is never in a joint pass: instruments run copies, on one rank alone.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.rows = ranks, 0

    @contextmanager
    def forward_pass(self, rows: int) -> Iterator[None]:
        """Let modules wait for the other ranks inside this context."""
        self.rows = rows
        try:
            yield
        finally:
            self.rows = 0

    def __deepcopy__(self, memo: object) -> "Joint":
        return Joint(self.ranks)

    def __reduce__(self) -> tuple[Any, ...]:
        return Joint, (Ranks(),)
