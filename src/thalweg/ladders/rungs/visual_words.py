"""The rung of learned features: a bag of visual words, as many words as the time allows."""

from time import perf_counter

import torch

from thalweg.classical.features import standardisation, visual_words
from thalweg.errors import TooLongError
from thalweg.ladders.ladder_data import PIXELS_SIDE, LadderData
from thalweg.ladders.rung import RungMaker, RungResult, classified_images_only
from thalweg.ladders.rungs.linear import fit_classifier

WORD_COUNTS = (1600, 800, 400, 200, 100)
PATCH, GRID = 6, 2  # px; cells a side
OVERHEAD = 2.5  # times the products: with learning the words and fitting the classifier
PENALTIES = (3e-4, 1e-3, 3e-3)


def fit_visual_words(data: LadderData) -> RungResult:
    num_words = _affordable_words(data)
    images = data.images("train", PIXELS_SIDE)
    patch = min(PATCH, images.shape[2] // 2)
    extractor = visual_words(
        images, num_words=num_words, patch=patch, seed=data.options.seed, check=data.check_time
    )
    train = data.extract(extractor, images)
    val = data.extract(extractor, data.images("val", PIXELS_SIDE))
    scale = standardisation(train)
    vectors = scale(train), scale(val)
    result = fit_classifier(data, vectors, loss="squared-svm", penalties=PENALTIES)
    return result._replace(chosen=f"{num_words} words, {result.chosen}")


def _affordable_words(data: LadderData) -> int:
    """The most words that fit into the rung's time, with no more features than samples.

    Raises: TooLongError.
    """
    channels, *sides = data.facts.input_shape
    side = min(PIXELS_SIDE, *sides)
    patch = min(PATCH, side // 2)
    count = sum(data.facts.counts[split] for split in ("train", "val"))
    products = 2.0 * count * (side - patch + 1) ** 2 * channels * patch**2
    rate = _measure_products_per_second(data.device)

    def seconds(num_words: int) -> float:
        return OVERHEAD * (products * num_words + 2.0 * (GRID**2 * num_words) ** 3) / rate

    most = max(WORD_COUNTS[-1], data.facts.counts["train"] // GRID**2)
    for num_words in WORD_COUNTS:
        if num_words <= most and seconds(num_words) < data.time_limit:
            return num_words
    raise TooLongError(seconds(WORD_COUNTS[-1]))


def _measure_products_per_second(device: str) -> float:
    """Time the encoding: products of patches with words, and the passes over their distances."""
    patches, words = torch.rand(4096, 108, device=device), torch.rand(400, 108, device=device)
    start = perf_counter()
    for _ in range(5):
        codes = (patches @ words.T).sqrt_()
        codes = codes.neg_().add_(codes.mean(1, keepdim=True)).clamp_min_(0)
    codes.sum().item()  # waits for the device
    return 5 * 2.0 * 4096 * 400 * 108 / (perf_counter() - start)


RUNG = RungMaker(
    name="visual-words",
    title="visual words, SVM",
    kind="features",
    run=fit_visual_words,
    unfit_reason=classified_images_only,
)
