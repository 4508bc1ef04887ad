"""What fitted models reach on CIFAR-10, rung by rung: test accuracy and seconds, no network at all.

Figures to compare with: CS231n's assignments (k-nearest neighbours on 5,000 / 500 images 28 %; 1-NN
on all, L1 38.6 %, L2 35.4 %), Coates, Lee & Ng 2011 (visual words), and our earlier runs (ridge
40.5, softmax 41, SVM 39, HOG + hue 51). Penalties and k are chosen on training data alone.
$THALWEG_RUNGS says how the names of the rungs to run begin, $THALWEG_WORDS how many words to learn.
"""

import os
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks._cifar10 import Cifar10, cifar10
from thalweg.classical import (
    LinearMap,
    NearestNeighborClassifier,
    choose_by_gcv,
    choose_k,
    linear_classifier,
    moments,
    one_hot,
)
from thalweg.classical.features import (
    colour_histogram,
    concatenation,
    hog,
    standardisation,
    visual_words,
)

WORDS = int(os.environ.get("THALWEG_WORDS", "400"))
HELD_OUT = 5000  # of the training images, to choose a penalty by
FLOOR = {  # what each rung should reach
    "5,000 / 500 nearest neighbours": 0.28,
    "1-NN, L2": 0.35,
    "1-NN, L1": 0.38,
    "ridge": 0.40,
    "softmax": 0.405,
    "SVM": 0.385,
    "HOG + hue, softmax": 0.505,
    "visual words, L2-SVM": 0.68,
}


def main() -> dict[str, object]:
    data = cifar10()
    asked = os.environ.get("THALWEG_RUNGS", "")
    found = {}
    for name, rung in RUNGS.items():
        if asked and not any(name.startswith(word) for word in asked.split(",")):
            continue
        start, cpu = perf_counter(), process_time()
        accuracy, detail = rung(data)
        found[name] = {
            "accuracy": round(accuracy, 4),
            "seconds": round(perf_counter() - start, 2),
            "CPU seconds": round(process_time() - cpu, 2),
            **detail,
        }
        print(name, found[name], file=sys.stderr, flush=True)
    held = {name: row["accuracy"] >= FLOOR[name] for name, row in found.items()}
    return {"threads": torch.get_num_threads(), "rungs": found, "floors": FLOOR, "held": held}


def few_neighbours(data: Cifar10) -> tuple[float, dict]:
    """CS231n's assignment 1: the first 5,000 and 500 images, k by 5-fold cross-validation."""
    inputs, targets = data.train[:5000].flatten(1), data.train_classes[:5000]
    chosen = choose_k(inputs, targets, num_classes=10)
    model = NearestNeighborClassifier(reference=inputs, targets=targets, num_classes=10, k=chosen.k)
    predicted = model.predict(data.test[:500].flatten(1))
    folds = {k: str(score) for k, score in chosen.scores.items()}
    return _share(predicted, data.test_classes[:500]), {"k": chosen.k, "folds": folds}


def nearest_by(metric: Literal["l1", "l2"]) -> Callable[[Cifar10], tuple[float, dict]]:
    def rung(data: Cifar10) -> tuple[float, dict]:
        model = NearestNeighborClassifier(
            reference=data.train.flatten(1),
            targets=data.train_classes,
            num_classes=10,
            metric=metric,
        )
        return _share(model.predict(data.test.flatten(1)), data.test_classes), {"k": 1}

    return rung


def ridge_by_gcv(data: Cifar10) -> tuple[float, dict]:
    known = moments(data.train.flatten(1), one_hot(data.train_classes, num_classes=10))
    fit = choose_by_gcv(known).fit
    return _accuracy(fit.map, data.test.flatten(1), data.test_classes), {"penalty": fit.penalty}


def on_pixels(loss: str, penalties: tuple[float, ...]) -> Callable[[Cifar10], tuple[float, dict]]:
    def rung(data: Cifar10) -> tuple[float, dict]:
        images = data.train.flatten(1).float() / 255, data.test.flatten(1).float() / 255
        return _linear(images, data, loss=loss, penalties=penalties)

    return rung


def on_hog_and_hue(data: Cifar10) -> tuple[float, dict]:
    feature = concatenation(lambda images: hog(images, normalisation="none"), colour_histogram)
    vectors = _scaled(feature(data.train), feature(data.test))
    return _linear(vectors, data, loss="softmax", penalties=(1e-6, 1e-5, 1e-4, 1e-3))


def on_visual_words(data: Cifar10) -> tuple[float, dict]:
    start = perf_counter()
    feature = visual_words(data.train, num_words=WORDS)
    vectors = _scaled(feature(data.train), feature(data.test))
    encoded = round(perf_counter() - start, 1)
    accuracy, detail = _linear(
        vectors, data, loss="squared-svm", penalties=(0.0003, 0.001, 0.003), tolerance=1e-3
    )
    return accuracy, {"words": WORDS, "of which encoding": encoded, **detail}


def _linear(
    vectors: tuple[Tensor, Tensor],
    data: Cifar10,
    *,
    loss: str,
    penalties: tuple[float, ...],
    tolerance: float = 1e-4,
) -> tuple[float, dict]:
    """The penalty that is best on the last training images; then all of them at that penalty."""
    train, test = vectors
    part, rest = slice(0, -HELD_OUT), slice(-HELD_OUT, None)
    settings: dict[str, Any] = {"num_classes": 10, "loss": loss, "tolerance": tolerance}
    fitted, scores = None, {}
    for penalty in sorted(penalties, reverse=True):
        fitted = linear_classifier(
            train[part], data.train_classes[part], penalty=penalty, start=fitted, **settings
        ).map
        scores[penalty] = _accuracy(fitted, train[rest], data.train_classes[rest])
    best = max(scores, key=scores.get)
    final = linear_classifier(train, data.train_classes, penalty=best, start=fitted, **settings)
    detail = {"penalty": best, "held out": scores, "objective": round(final.objective, 4)}
    return _accuracy(final.map, test, data.test_classes), detail


def _scaled(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    scale = standardisation(train)
    return scale(train), scale(test)


def _accuracy(fitted: LinearMap, inputs: Tensor, targets: Tensor) -> float:
    return _share(fitted.predict(inputs), targets)


def _share(predicted: Tensor, targets: Tensor) -> float:
    return (predicted == targets).double().mean().item()


RUNGS = {
    "5,000 / 500 nearest neighbours": few_neighbours,
    "1-NN, L2": nearest_by("l2"),
    "1-NN, L1": nearest_by("l1"),
    "ridge": ridge_by_gcv,
    "softmax": on_pixels("softmax", (1e-4, 1e-3, 1e-2)),
    "SVM": on_pixels("svm", (1e-2, 1e-1)),
    "HOG + hue, softmax": on_hog_and_hue,
    "visual words, L2-SVM": on_visual_words,
}

if __name__ == "__main__":
    import json

    print(json.dumps(main(), indent=2))
