"""Start ranks on this machine with the elastic agent of torchrun."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from thalweg.distributed.ranks import cores_of_a_rank

# Signals that the agent handles, by ending the ranks; the caller handles the others.
_AGENT_SIGNALS = (signal.SIGHUP, signal.SIGQUIT)
GRACE = "10"  # s from the end of one rank until the agent kills the others


def run_ranks(command: Sequence[str], *, count: int, scratch: Path) -> dict[int, int]:
    """Run the command as `count` ranks; return the exit codes of those that failed, by rank.

    A negative code is the number of a signal. When one rank fails, the agent ends the others. It
    keeps its own files in the folder `scratch`.
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
        signals_to_handle=",".join(one.name for one in _AGENT_SIGNALS),
        logs_specs=DefaultLogsSpecs(log_dir=str(scratch)),
    )
    with _rank_environment(count), _restored_handlers(), _silenced_log():
        try:
            elastic_launch(config, command[0])(*command[1:])
        except ChildFailedError as error:
            return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return {}


@contextmanager
def _rank_environment(count: int) -> Iterator[None]:
    """Set the environment that the ranks inherit; restore it afterwards."""
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
def _restored_handlers() -> Iterator[None]:
    """Restore the signal handlers, which the agent does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _AGENT_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _silenced_log() -> Iterator[None]:
    """Disable the agent's loggers: `run_ranks` returns what they report."""
    loggers = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.startswith(("torch.distributed", "torchelastic"))
        and isinstance(logger, logging.Logger)
        and not logger.disabled
    ]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in loggers:
            logger.disabled = False
