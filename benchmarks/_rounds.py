"""Rounds in which all contestants have their turn, so that a busy hour is everybody's.

BENCHMARK_REPEATS is how many, where a script's own number takes too long; results name it as n.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from compileall import compile_dir
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import thalweg
from benchmarks._peers import peer_python
from benchmarks._photographs import photographs

Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # contestant → what each of its runs found


def on_photographs(
    one: Callable[[Path, Path], Mapping[str, Mapping[str, Any]]],
    *,
    train: int,
    val: int,
    repeats: int,
) -> Runs:
    """What `one(folder of photographs, place for files)` finds in each of so many rounds."""
    peer_python()  # before an hour is spent on one half of a comparison
    compile_dir(Path(thalweg.__file__).parent, quiet=1)  # as installing a package does
    with TemporaryDirectory() as place:
        folder = Path(place) / "photographs"
        photographs(folder, train=train, val=val)
        runs: dict[str, list[Mapping[str, Any]]] = {}
        for turn in range(count(repeats)):
            files = Path(place) / f"files-{turn}"
            files.mkdir()
            for name, found in one(folder, files).items():
                runs.setdefault(name, []).append(found)
    return runs


def count(repeats: int) -> int:
    """How many rounds: a script's own number, or the one that was asked for."""
    return int(os.environ.get("BENCHMARK_REPEATS", repeats))


def medians(runs: Runs, *keys: str) -> dict[str, dict[str, float]]:
    """Contestant → the median over its runs of each figure."""
    return {
        name: {key: round(median(run[key] for run in found), 3) for key in keys}
        for name, found in runs.items()
    }
