"""Other trainers, in an environment of their own: BENCHMARK_PEERS is the path of its Python.

`pip install fastai lightning torchvision ultralytics` makes one. Each script in peers/ is set up as
that project's documentation would set it up, and prints one line of JSON.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter
from typing import Any

SCRIPTS = Path(__file__).parent / "peers"


class NotMeasuredError(Exception):
    """What a benchmark needs is not on this machine."""


class NoPeersError(NotMeasuredError):
    """There is nothing to compare with here."""


def peer_python() -> str:
    """The interpreter that has the peers. NoPeersError says how to name one."""
    if not (python := named_python()):
        raise NoPeersError("BENCHMARK_PEERS must be the Python of an environment with the peers")
    return python


def named_python() -> str:
    """The interpreter that has the peers, or ""; THALWEG_PEERS is what it was called before."""
    return os.environ.get("BENCHMARK_PEERS") or os.environ.get("THALWEG_PEERS", "")


def plain_environment() -> dict[str, str]:
    """The environment without that old name: our command takes THALWEG_… for recipe keys."""
    return {name: value for name, value in os.environ.items() if name != "THALWEG_PEERS"}


def peer(script: str, *arguments: object) -> dict[str, Any]:
    """What a script of peers/ prints, with the seconds that its process took."""
    return process([peer_python(), str(SCRIPTS / script), *map(str, arguments)])


def process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON on the last line that a process prints, with its wall and processor seconds."""
    start, before = perf_counter(), getrusage(RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        env={**plain_environment(), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = perf_counter() - start, getrusage(RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": wall, "cpu": cpu}
