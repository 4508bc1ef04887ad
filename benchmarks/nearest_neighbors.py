"""Exact nearest neighbours, 10,000 × 50,000 × 3,072 (CIFAR-10), beside FAISS and scikit-learn.

Claims (goal C7): ≥ 2× as fast as FAISS IndexFlatL2, ≥ 4× as fast as scikit-learn's brute force,
with the same answers. All in one process on the same threads, in turn, the best of REPEATS; the
figure of interest is the ratio. Ours is measured on bytes, which is what the images are, and on
floats (bytes / 255 less their mean), which is what the peers need. Times include every conversion.
`python -m benchmarks nearest_neighbors`; $THALWEG_QUERIES and $THALWEG_REPEATS make it shorter.
"""

import os
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from benchmarks._cifar10 import cifar10
from thalweg.classical import nearest_neighbors

K = 5
QUERIES = int(os.environ.get("THALWEG_QUERIES", "10000"))
REPEATS = int(os.environ.get("THALWEG_REPEATS", "3"))


def main() -> dict[str, object]:
    data = cifar10()
    reference, queries = data.train.flatten(1), data.test.flatten(1)[:QUERIES]
    floats, asked = reference.float() / 255, queries.float() / 255
    runs: dict[str, Callable[[], Any]] = {
        "thalweg, bytes": lambda: nearest_neighbors(queries, reference, k=K).indices,
        "thalweg, floats": lambda: nearest_neighbors(asked, floats, k=K).indices,
        "faiss IndexFlatL2": lambda: _faiss(asked.numpy(), floats.numpy()),
        "scikit-learn brute": lambda: _scikit_learn(asked.numpy(), floats.numpy()),
    }
    faiss.omp_set_num_threads(torch.get_num_threads())
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    answers = {}
    for _ in range(REPEATS):
        for name, run in runs.items():
            answers[name], taken = _timed(run)
            seconds[name].append(taken)
    best = {name: min(wall for wall, _ in taken) for name, taken in seconds.items()}
    ours = answers["thalweg, bytes"]
    return {
        "queries": len(queries),
        "reference": tuple(reference.shape),
        "k": K,
        "threads": torch.get_num_threads(),
        "n": REPEATS,
        "best wall seconds": {name: round(value, 3) for name, value in best.items()},
        "best CPU seconds": {
            name: round(min(cpu for _, cpu in taken), 3) for name, taken in seconds.items()
        },
        "times as fast": {
            f"{mine} / {peer}": round(best[peer] / best[mine], 2)
            for mine in list(runs)[:2]
            for peer in list(runs)[2:]
        },
        "share of equal answers": {
            name: float(np.mean(np.asarray(found) == np.asarray(ours)))
            for name, found in answers.items()
        },
        # Where a peer differs: how much further away its neighbour is than ours, relatively.
        "largest excess distance": {
            name: _excess(asked, floats, np.asarray(found), np.asarray(ours))
            for name, found in answers.items()
        },
    }


def _faiss(queries: np.ndarray, reference: np.ndarray) -> np.ndarray:
    index = faiss.IndexFlatL2(reference.shape[1])
    index.add(reference)
    return index.search(queries, K)[1]


def _scikit_learn(queries: np.ndarray, reference: np.ndarray) -> np.ndarray:
    fitted = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(reference)
    return fitted.kneighbors(queries, return_distance=False)


def _timed(run: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    wall, cpu = perf_counter(), process_time()
    found = run()
    return found, (perf_counter() - wall, process_time() - cpu)


def _excess(queries: torch.Tensor, reference: torch.Tensor, theirs: np.ndarray, ours: np.ndarray):
    worst = 0.0
    for row, column in np.argwhere(theirs != ours)[:2000]:
        near, far = (
            (queries[row].double() - reference[found[row, column]].double()).norm().item()
            for found in (ours, theirs)
        )
        worst = max(worst, far / near - 1)
    return worst


if __name__ == "__main__":
    import json

    print(json.dumps(main(), indent=2))
