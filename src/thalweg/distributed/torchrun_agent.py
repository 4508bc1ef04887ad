"""Ranks started on this machine, by the agent that is in torchrun."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from thalweg.distributed.ranks import cores_of_a_rank

# By the agent, which then ends the ranks; the other signals are the caller's.
_TAKEN = (signal.SIGHUP, signal.SIGQUIT)
GRACE = "10"  # s from the end of one rank, or of the wish to wait, to the end of all


def run_ranks(command: Sequence[str], *, count: int, scratch: Path) -> dict[int, int]:
    """Run the command as so many ranks; the exit codes of those that failed, by rank.

    A negative code is a signal's. When one fails the others are ended. The agent puts what it
    needs into the folder `scratch`.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        signals_to_handle=",".join(one.name for one in _TAKEN),
        logs_specs=DefaultLogsSpecs(log_dir=str(scratch)),
    )
    with _environment(count), _handlers_kept(), _quiet():
        try:
            elastic_launch(config, command[0])(*command[1:])
        except ChildFailedError as error:
            return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return {}


@contextmanager
def _environment(count: int) -> Iterator[None]:
    """What the ranks inherit; as before afterwards."""
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = str(cores_of_a_rank(count))
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = GRACE
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever the host's name resolves to
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """The agent leaves its signal handlers behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _TAKEN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the agent's log: what it has to say is in what `run_ranks` returns."""
    named = logging.root.manager.loggerDict.items()
    loud = [one for name, one in named if name.startswith(("torch.distributed", "torchelastic"))]
    silenced = [one for one in loud if isinstance(one, logging.Logger) and not one.disabled]
    for one in silenced:
        one.disabled = True
    try:
        yield
    finally:
        for one in silenced:
            one.disabled = False
