"""Softmax regression on 50,000 × 512 features beside scikit-learn's L-BFGS, to the same loss.

Claim (goal C7): ≥ 5× as fast. The features are 128 random convolution filters on CIFAR-10,
rectified and averaged over quarters: correlated, as real features are. scikit-learn runs with a
growing number of iterations; its time is that of the first run whose objective comes within
TOLERANCE of the best one known; ours that of the first tolerance setting that does. In turn, best
of REPEATS.
"""

import os
import warnings
from time import perf_counter

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from benchmarks._cifar10 import cifar10
from thalweg.classical import linear_classifier
from thalweg.classical.features import standardisation

ROWS = int(os.environ.get("THALWEG_ROWS", "50000"))
REPEATS = int(os.environ.get("THALWEG_REPEATS", "2"))
PENALTY, LIMIT = 1e-4, 5.0
WITHIN = (1e-2, 1e-3)  # of the best objective known
SETTINGS = (1e-3, 1e-4, 1e-5, 1e-6)
ITERATIONS = (25, 50, 100, 200, 400, 800)


def main() -> dict[str, object]:
    data = cifar10()
    features = _features(data.train[:ROWS])
    inputs, targets = standardisation(features)(features), data.train_classes[:ROWS]
    floor = _ours(inputs, targets, 1e-9)[1]
    ours, theirs = {}, {}
    for _ in range(REPEATS):
        for setting in SETTINGS:
            _keep(ours, setting, _ours(inputs, targets, setting))
        for count in ITERATIONS:
            _keep(theirs, count, _theirs(inputs, targets, count))
            if theirs[count][1] <= floor * (1 + min(WITHIN)):
                break
    ratios = {}
    for within in WITHIN:
        reached = [
            min((s for s, value in runs.values() if value <= floor * (1 + within)), default=np.inf)
            for runs in (ours, theirs)
        ]
        ratios[f"within {within:g} of the best"] = {
            "ours, s": round(reached[0], 3),
            "scikit-learn, s": round(reached[1], 3),
            "times as fast": round(reached[1] / reached[0], 2),
        }
    least = min(pair["times as fast"] for pair in ratios.values())
    return {
        "claim": "C7",
        "goal": f"≥ {LIMIT:g} × scikit-learn's speed to the same loss",
        "measured": ", ".join(f"{r['times as fast']} × {within}" for within, r in ratios.items()),
        "limit": LIMIT,
        "held": bool(least >= LIMIT),
        "inputs": tuple(inputs.shape),
        "penalty": PENALTY,
        "threads": torch.get_num_threads(),
        "n": REPEATS,
        "best objective known": floor,
        "to the same loss": ratios,
        "ours: tolerance -> seconds, objective": ours,
        "scikit-learn: iterations -> seconds, objective": theirs,
    }


def _features(images: Tensor) -> Tensor:
    filters = torch.randn(128, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    parts = []
    for part in images.split(500):
        pixels = part.float() / 255
        response = F.conv2d(pixels - pixels.mean((1, 2, 3), keepdim=True), filters, stride=2)
        parts.append(F.adaptive_avg_pool2d(response.relu(), 2).flatten(1))
    return torch.cat(parts)


def _ours(inputs: Tensor, targets: Tensor, tolerance: float) -> tuple[float, float]:
    start = perf_counter()
    fit = linear_classifier(
        inputs, targets, num_classes=10, penalty=PENALTY, tolerance=tolerance, max_iterations=2000
    )
    return perf_counter() - start, _objective(inputs, targets, fit.map.weight, fit.map.bias)


def _theirs(inputs: Tensor, targets: Tensor, iterations: int) -> tuple[float, float]:
    peer = LogisticRegression(C=1 / (PENALTY * len(inputs)), max_iter=iterations, tol=1e-7)
    start = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stops at the count is what is asked of it
        peer.fit(inputs.numpy(), targets.numpy())
    seconds = perf_counter() - start
    weight, bias = torch.from_numpy(peer.coef_.T), torch.from_numpy(peer.intercept_)
    return seconds, _objective(inputs, targets, weight, bias)


def _objective(inputs: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> float:
    weight, bias = weight.double(), bias.double()
    total = 0.0
    for part, classes in zip(inputs.split(5000), targets.split(5000), strict=True):
        total += F.cross_entropy(part.double() @ weight + bias, classes, reduction="sum").item()
    return total / len(inputs) + PENALTY / 2 * weight.square().sum().item()


def _keep(runs: dict, key: float, found: tuple[float, float]) -> None:
    runs[key] = min(found, runs.get(key, (float("inf"), 0.0)))


if __name__ == "__main__":
    import json

    print(json.dumps(main(), indent=2))
