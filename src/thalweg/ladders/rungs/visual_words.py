"""The rung of data-driven features: a bag of visual words, as many as the time allows."""

from time import perf_counter

import torch

from thalweg.classical.features import standardised, visual_words
from thalweg.ladders.rung import RungMaker, TooLongError, classified_images_only
from thalweg.ladders.rungs.linear import fitted
from thalweg.ladders.samples import PIXELS_SIDE, Climbed, Ground

WORDS = (1600, 800, 400, 200, 100)
PATCH, GRID = 6, 2  # px; cells a side
PRODUCTS_AGAIN = 2.5  # learning the words, fitting the classifier: as much again, and half
PENALTIES = (3e-4, 1e-3, 3e-3)


def climb(ground: Ground) -> Climbed:
    words = _affordable(ground)
    images = ground.images("train", PIXELS_SIDE)
    patch = min(PATCH, images.shape[2] // 2)
    feature = visual_words(images, num_words=words, patch=patch, seed=ground.wishes.seed)
    train, val = feature(images), feature(ground.images("val", PIXELS_SIDE))
    scale = standardised(train)
    found = fitted(ground, (scale(train), scale(val)), loss="squared-svm", penalties=PENALTIES)
    return found._replace(chosen=f"{words} words, {found.chosen}")


def _affordable(ground: Ground) -> int:
    """As many words as can be counted in the rung's time, and no more features than samples.

    Raises: TooLongError.
    """
    channels, *sides = ground.facts.input_shape
    side = min(PIXELS_SIDE, *sides)
    patch = min(PATCH, side // 2)
    count = sum(ground.facts.counts[split] for split in ("train", "val"))
    products = 2.0 * count * (side - patch + 1) ** 2 * channels * patch**2
    rate = _products_per_second(ground.device)

    def seconds(words: int) -> float:
        return PRODUCTS_AGAIN * (products * words + 2.0 * (GRID**2 * words) ** 3) / rate

    enough = max(WORDS[-1], ground.facts.counts["train"] // GRID**2)
    for words in WORDS:
        if words <= enough and seconds(words) < ground.seconds:
            return words
    raise TooLongError(seconds(WORDS[-1]))


def _products_per_second(device: str) -> float:
    """Of codes: products of patches with words, and the passes over their distances."""
    patches, words = torch.rand(4096, 108, device=device), torch.rand(400, 108, device=device)
    begun = perf_counter()
    for _ in range(5):
        codes = (patches @ words.T).sqrt_()
        codes = codes.neg_().add_(codes.mean(1, keepdim=True)).clamp_min_(0)
    codes.sum().item()  # waits for the device
    return 5 * 2.0 * 4096 * 400 * 108 / (perf_counter() - begun)


RUNG = RungMaker(
    name="visual-words",
    title="visual words, SVM",
    kind="features",
    climb=climb,
    unfit=classified_images_only,
)
