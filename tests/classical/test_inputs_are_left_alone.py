"""Nothing that is fitted here writes into what it was given, and nothing turns a global knob."""

import pytest
import torch
from classical.agreement import bytes_like, normal

from thalweg import classical
from thalweg.classical import features

CLASSES = torch.arange(60) % 3
ONE_HOT = torch.nn.functional.one_hot(CLASSES).float()

ON_VECTORS = {
    "neighbours, L2": lambda x: classical.nearest_neighbors(x, x, k=3),
    "neighbours, L1": lambda x: classical.nearest_neighbors(x, x, k=3, metric="l1"),
    "choose k": lambda x: classical.choose_k(x, CLASSES, num_classes=3, candidates=(1, 3)),
    "least squares": lambda x: classical.least_squares(x, ONE_HOT),
    "ridge": lambda x: classical.least_squares(x, ONE_HOT, penalty=1.0).map(x),
    "ridge by folds": lambda x: classical.choose_by_folds(
        x, ONE_HOT, classical.folds(CLASSES, num_folds=3)
    ),
    "softmax": lambda x: classical.linear_classifier(x, CLASSES, num_classes=3).map(x),
    "SVM": lambda x: classical.linear_classifier(x, CLASSES, num_classes=3, loss="svm"),
    "k-means": lambda x: classical.k_means(x, 4, start=x[:4].float()),
    "whitening": lambda x: features.whitening(x)(x),
    "standardisation": lambda x: features.standardisation(x)(x),
}
ON_IMAGES = {
    "hue": features.colour_histogram,
    "HOG": features.hog,
    "visual words": lambda x: features.visual_words(x, num_words=3, num_patches=200)(x),
}


def knobs():
    return (
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.random.get_rng_state().sum().item(),
    )


def check(call, given):
    kept, before = [tensor.clone() for tensor in (given, CLASSES, ONE_HOT)], knobs()
    call(given)
    assert all(map(torch.equal, kept, (given, CLASSES, ONE_HOT)))
    assert knobs() == before


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ON_VECTORS)
def test_vectors(name, kind):
    vectors = bytes_like(60, 5) if kind == torch.uint8 else normal(60, 5, dtype=kind)
    check(ON_VECTORS[name], vectors)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", ON_IMAGES)
def test_images(name, kind):
    images = bytes_like(4, 3, 16, 16)
    check(ON_IMAGES[name], images if kind == torch.uint8 else images.float() / 255)
