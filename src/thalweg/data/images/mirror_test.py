"""Test on the training images whether the mirror image of a class still shows that class.

An arrow to the left is, mirrored, an arrow to the right; so are digits, letters, signs and sides of
a body. A flip teaches a network to confuse them.
"""

from collections.abc import Iterable
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

SIDE = 32  # pixels, to which images are reduced
FILTERS = 96
PATCH = 5  # pixels
MOST_IMAGES = 480
FEWEST_IMAGES = 60
MOST_CLASSES = 10  # the largest ones
FOLDS = 4
RIDGE = 0.03  # of the features' mean squared size
SURE = 3.5  # standard deviations
LEAST_DROP = 0.1  # of the accuracy


class MirrorTest(NamedTuple):
    """Accuracy of a small classifier on held-out images, and on their mirror images."""

    plain: float
    mirrored: float
    is_harmful: bool  # mirrored images are significantly and considerably less often right

    @property
    def note(self) -> str:
        """The note of a data set whose images are not to be mirrored."""
        return (
            "training images are not mirrored: a small classifier gets "
            f"{self.plain:.0%} of them right, and {self.mirrored:.0%} of their mirror images"
        )


def sample_rows(targets: np.ndarray, rows: Int[np.ndarray, " row"]) -> Int[np.ndarray, " sample"]:
    """Some of these rows for the test: as many of each of the largest classes, spread over them."""
    classes = _classes(targets)[rows]
    values, counts = np.unique(classes, return_counts=True)
    largest = values[np.argsort(-counts, kind="stable")[:MOST_CLASSES]]
    each = MOST_IMAGES // max(1, len(largest))
    places = [_spread(np.flatnonzero(classes == c), each) for c in largest]
    return np.asarray(rows[np.sort(np.concatenate(places))])


def mirror_test_of_rows(
    inputs: Any, targets: np.ndarray, rows: Int[np.ndarray, " row"]
) -> MirrorTest | None:
    """Make the test with these rows of images; None for too few."""
    return mirror_test((inputs[row] for row in rows), _classes(targets)[rows])


def _classes(targets: np.ndarray) -> Int[np.ndarray, " sample"]:
    """Class numbers; of several labels, each combination is a class here."""
    if targets.ndim == 1:
        return targets
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)


def mirror_test(
    images: Iterable[np.ndarray], classes: Int[np.ndarray, " sample"]
) -> MirrorTest | None:
    """Train on images, test on others and on their mirror images; None for too few images.

    The classifier is a ridge regression on random patches' responses, averaged over a quarter each:
    it learns in a moment what makes a shape, and looks at orientation as a network would.
    Source of the features: Coates, Lee & Ng 2011, https://proceedings.mlr.press/v15/coates11a.html.
    """
    stack = torch.stack([_small(image) for image in images])
    _, targets = np.unique(classes, return_inverse=True)
    if len(stack) < FEWEST_IMAGES or targets.max() < 1:
        return None
    patches = _patches(stack)
    plain, mirrored = (_features(x, patches) for x in (stack, stack.flip(-1)))
    right, mirror_right = _right(plain, mirrored, torch.from_numpy(targets))
    lost = int((right & ~mirror_right).sum())
    won = int((~right & mirror_right).sum())
    drop = (lost - won) / len(stack)
    is_sure = lost - won > SURE * sqrt(lost + won)
    return MirrorTest(
        right.double().mean().item(),
        mirror_right.double().mean().item(),
        is_sure and drop > LEAST_DROP,
    )


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return np.asarray(rows[places])


def _small(image: np.ndarray) -> Float[Tensor, "channel h w"]:
    """The image, float, with mean 0 and standard deviation 1, of 32 px."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    if pixels.shape[1:] != (SIDE, SIDE):
        pixels = F.interpolate(pixels[None], (SIDE, SIDE), mode="area")[0]
    return (pixels - pixels.mean()) / pixels.std().clamp_min(1e-3)


def _patches(stack: Float[Tensor, "n c h w"]) -> Float[Tensor, "filter c p p"]:
    """Patches of the images at random places, without their mean, of length 1."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(len(stack), (FILTERS,), generator=draw)
    places = torch.randint(SIDE - PATCH + 1, (FILTERS, 2), generator=draw)
    cut = [
        stack[r, :, y : y + PATCH, x : x + PATCH]
        for r, (y, x) in zip(rows.tolist(), places.tolist(), strict=True)
    ]
    patches = torch.stack(cut)
    patches = patches - patches.mean(dim=(1, 2, 3), keepdim=True)
    return patches / patches.flatten(1).norm(dim=1).clamp_min(1e-3)[:, None, None, None]


def _features(stack: Tensor, patches: Tensor) -> Float[Tensor, "n feature"]:
    """Responses to the patches and to their negatives, averaged over each quarter."""
    responses = F.conv2d(stack, patches)
    both = torch.cat([F.relu(responses - 0.5), F.relu(-responses - 0.5)], dim=1)
    return F.adaptive_avg_pool2d(both, 2).flatten(1).double()


def _right(plain: Tensor, mirrored: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether each image, held out, is classified right as it is, and mirrored."""
    right, mirror_right = (torch.zeros(len(targets), dtype=torch.bool) for _ in range(2))
    hot = F.one_hot(targets).double()
    for fold in range(FOLDS):
        held = torch.arange(len(targets)) % FOLDS == fold
        mean, std = plain[~held].mean(0), plain[~held].std(0).clamp_min(1e-6)
        weights = _ridge((plain[~held] - mean) / std, hot[~held] - hot[~held].mean(0))
        for features, outcome in ((plain, right), (mirrored, mirror_right)):
            guess = ((features[held] - mean) / std @ weights).argmax(1)
            outcome[held] = guess == targets[held]
    return right, mirror_right


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """Weights of the ridge regression, by the smaller of the two systems of equations."""
    kernel = x @ x.T
    kernel.diagonal().add_(RIDGE * kernel.diagonal().mean() + 1e-9)
    return x.T @ torch.linalg.solve(kernel, y)
