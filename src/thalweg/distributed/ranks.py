"""The processes that train one model together, as torchrun starts them: who is who, who says what.

Two groups are used. The default one, of NCCL on GPUs and gloo elsewhere, carries what computes;
another, of gloo and patient, carries what rank 0 decides.
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

PATIENCE = timedelta(days=7)  # rank 0 may read data, judge and save for long; who dies is noticed
_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_OF_THE_GROUP = re.compile(
    r"gloo/transport|connection (was )?(closed|reset|refused)|broken pipe|timed out", re.IGNORECASE
)
Value = TypeVar("Value")


class LostRankError(TrainingError):
    """Another rank is gone, or does not answer: this one cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's place among those that train together; by default it is alone."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # on its machine
    count_here: int = 1  # on its machine
    control: Any = None  # the process group of decisions

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes the run and speaks."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    def from_first(self, value: Any = None) -> Any:
        """What rank 0 passed in, on every rank."""
        if self.is_alone:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def to_first(self, value: Any) -> list[Any]:
        """What every rank passed in, in order, on rank 0; nothing elsewhere."""
        if self.is_alone:
            return [value]
        found: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(value, found, dst=0, group=self.control)
        return found or []

    def agreed(self, decision: bool) -> bool:
        """Rank 0's decision, on every rank; what the others pass in does not count."""
        if self.is_alone:
            return decision
        box = torch.tensor([decision], dtype=torch.uint8)
        dist.broadcast(box, src=0, group=self.control)
        return bool(box)

    def one_after_the_other(self, work: Callable[[], Value]) -> Value:
        """The result of the work, done first by one process of each machine, then by the rest.

        So what it leaves on the machine's disk, a cache, is made once and found by the others.
        """
        if self.is_alone:
            return work()
        done = work() if self.local_rank == 0 else None
        dist.barrier(group=self.control)
        return work() if done is None else done


def is_started() -> bool:
    """Whether torchrun, or whoever sets its variables, has started this process."""
    return all(name in os.environ for name in _NEEDED)


def is_one_of_many() -> bool:
    """Whether this process was started as a rank beside others."""
    return is_started() and int(os.environ["WORLD_SIZE"]) > 1


def is_silent() -> bool:
    """Whether another rank speaks for this one."""
    return is_one_of_many() and os.environ["RANK"] != "0"


def cores_of_a_rank(ranks_here: int) -> int:
    """Cores of this machine that each of so many ranks gets, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, ranks_here))


@contextmanager
def joined() -> Iterator[Ranks]:
    """The group that this process was started in; left again at the end.

    Where there are GPUs, rank number `local_rank` gets the GPU of that number; else each gets its
    share of the cores. Raises: LostRankError when another rank is gone.
    """
    local, here = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    torch.set_num_threads(cores_of_a_rank(here))
    with naming_lost_ranks():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
        rank, count = dist.get_rank(), dist.get_world_size()
        yield Ranks(rank=rank, count=count, local_rank=local, count_here=here, control=control)
    dist.destroy_process_group()  # after an error the process ends, and waits for nobody


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """What a collective raises when a peer is gone becomes an error that says so."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        of_group = isinstance(error, dist.DistError) or _OF_THE_GROUP.search(text)
        if isinstance(error, TrainingError) or not of_group:
            raise
        raise LostRankError(
            "another rank of the training is gone, or does not answer",
            seen=f"rank {os.environ.get('RANK')} on {socket.gethostname()}: {text[:200]}",
            fix="see what that rank said; --resume goes on from the last checkpoint",
        ) from error


class Joint:
    """Whether a forward pass is under way that all ranks make together, and of how many rows.

    A copy is never in one: instruments look at copies, on one rank alone.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.rows = ranks, 0

    @contextmanager
    def of(self, rows: int) -> Iterator[None]:
        """Inside, modules may wait for the other ranks."""
        self.rows = rows
        try:
            yield
        finally:
            self.rows = 0

    def __deepcopy__(self, memo: object) -> "Joint":
        return Joint(self.ranks)

    def __reduce__(self) -> tuple[Any, ...]:
        return Joint, (Ranks(),)
