"""Sequences: commands of SCAN to actions, by the default recipe, on its own three splits.

Simple is a random split, which is solved; length (short outputs train, long ones test) and jump
(the command jump is trained alone, and tested within others) are known failures of networks without
a notion of the rule (Lake & Baroni 2018, https://arxiv.org/abs/1711.00350: 99.8, 13.8 and 1.2 %,
with the best of many networks; 20.8 % by length). Each split's own training file is divided for
validation, which picks the weights; its test file is scored once. The exact match counts sequences
that are written right, token for token, the end too.

$THALWEG_SEEDS is the number of seeds (1), $THALWEG_SPLITS names the splits, separated by commas.
The data are read from $THALWEG_DATA, or ../shared/data beside the checkout.
"""

import lzma
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean
from time import perf_counter, process_time
from typing import Any

from benchmarks._peers import NotMeasuredError
from thalweg import api

DATA = Path(os.environ.get("THALWEG_DATA", Path(__file__).parents[2] / "shared" / "data")) / "scan"
SPLITS = {  # name → (file's name, least and most exact match that are expected)
    "simple": ("simple", 0.998, 1.0),
    "length": ("length", 0.0, 0.25),
    "jump": ("addprim_jump", 0.0, 0.05),
}
MOST_SECONDS = 120


def main() -> dict[str, object]:
    """The exact match and the seconds of each split."""
    if not DATA.is_dir():
        raise NotMeasuredError(f"there is no {DATA}")
    names = os.environ.get("THALWEG_SPLITS", ",".join(SPLITS)).split(",")
    seeds = int(os.environ.get("THALWEG_SEEDS", "1"))
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        rows[name] = summary(name, [measure(name, seed) for seed in range(seeds)])
        print(name, rows[name], file=sys.stderr, flush=True)
    measured = ", ".join(
        f"{name} {100 * row['exact match']:.1f} % in {row['seconds']:.0f} s"
        for name, row in rows.items()
    )
    return {
        "claim": "Q1",
        "goal": f"simple ≥ 99.8 %, length ≤ 25 %, jump ≤ 5 %, each in ≤ {MOST_SECONDS} s",
        "measured": measured,
        "held": all(row["as expected"] and row["in time"] for row in rows.values()),
        "n": seeds,
        "splits": rows,
    }


def measure(name: str, seed: int) -> dict[str, float]:
    """Train on a split's training file, and score its test file."""
    file, _, _ = SPLITS[name]
    with tempfile.TemporaryDirectory() as desk:
        folder = Path(desk) / name
        folder.mkdir()
        for split in ("train", "test"):
            packed = DATA / f"tasks_{split}_{file}.txt.xz"
            (folder / f"{split}.txt").write_bytes(lzma.decompress(packed.read_bytes()))
        start, cpu = perf_counter(), process_time()
        run = api.train(folder, out=desk, edits={"seed": seed})
        seconds, cpu_seconds = perf_counter() - start, process_time() - cpu
        score = api.final(run.path)
    return {
        "exact match": score.metrics["test_exact_match"],
        "validation": run.metrics["val_exact_match"],
        "seconds": seconds,
        "cpu seconds": cpu_seconds,
    }


def summary(name: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the seeds, and whether they are what they should be."""
    _, least, most = SPLITS[name]
    means = {key: mean(run[key] for run in runs) for key in runs[0]}
    return {
        **{key: round(value, 4) for key, value in means.items()},
        "runs": [round(run["exact match"], 4) for run in runs],
        "as expected": least <= means["exact match"] <= most,
        "in time": means["seconds"] <= MOST_SECONDS,
    }
