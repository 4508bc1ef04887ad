"""A bag of visual words: an image as counts of k learned patches in each cell of a grid.

Source: Coates, Lee & Ng 2011, https://proceedings.mlr.press/v15/coates11a.html: patches are
normalised in contrast and whitened (ZCA), k-means finds the words, the distances to them code every
patch of an image, and the codes are averaged over a grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.classical.checks import check_count, check_name
from thalweg.classical.features.images import Images, as_floats, check_images, in_batches
from thalweg.classical.features.whitening import Whitening, whitening
from thalweg.classical.k_means import k_means

Coding = Literal["hard", "triangle"]

CONTRAST_FLOOR = 10 / 255**2  # added to a patch's variance, so that flat patches stay flat
WHITENING_FLOOR = 0.1  # of normalised patches: variance below it is mostly noise
CODES_PER_BATCH = 2**20  # 4 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualWords:
    """The fitted feature: images → [image, grid y · grid x · word]."""

    words: Float[Tensor, "word component"]
    whitener: Whitening
    patch: int
    stride: int
    coding: Coding
    grid: int

    def __call__(self, images: Images) -> Float[Tensor, "image feature"]:
        smallest = self.patch + (self.grid - 1) * self.stride
        check_images(images, channels=self._channels(), smallest=smallest)
        positions = ((images.shape[2] - self.patch) // self.stride + 1) * (
            (images.shape[3] - self.patch) // self.stride + 1
        )
        batch_size = CODES_PER_BATCH // (positions * len(self.words))
        return in_batches(self._pooled_codes, images, batch_size=batch_size)

    def _channels(self) -> int:
        return len(self.whitener.mean) // self.patch**2

    def _pooled_codes(self, images: Tensor) -> Tensor:
        patches = all_patches(as_floats(images), patch=self.patch, stride=self.stride)
        count, rows, columns, dim = patches.shape
        vectors = self.whitener(normalise_contrast(patches.view(-1, dim)))
        codes = CODINGS[self.coding](vectors, self.words.to(vectors))
        cells = _cells(rows, columns, self.grid).to(codes)
        return (cells @ codes.view(count, rows * columns, -1)).flatten(1)


def visual_words(
    images: Images,
    *,
    num_words: int = 400,
    patch: int = 6,
    stride: int = 1,
    coding: Coding = "triangle",
    grid: int = 2,
    num_patches: int = 100_000,
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> VisualWords:
    """Learn words from random patches of these images, without targets.

    `patch` and `stride` are in pixels; codes are averaged in each of `grid` × `grid` cells. "hard"
    counts the nearest word; "triangle" gives max(0, mean distance − distance to the word), of which
    about half are zero. `check` is called before each iteration of k-means, and may raise.
    Cost: patches · words · components products per image: 1,600 words on CIFAR-10, 0.25 GFLOP.
    Raises: DataError (images), UsageError (more words than patches).
    """
    check_name(coding, tuple(CODINGS), "coding")
    for name, value in (("patch", patch), ("stride", stride), ("grid", grid)):
        check_count(value, name=name, most=2**16, of="in pixels or cells")
    check_count(num_words, name="num_words", most=num_patches, of="the number of patches")
    check_images(images, smallest=patch + (grid - 1) * stride)
    sample = normalise_contrast(random_patches(images, patch=patch, count=num_patches, seed=seed))
    whitener = whitening(sample, kind="zca", epsilon=WHITENING_FLOOR)
    clusters = k_means(
        whitener(sample), num_words, max_iterations=50, tolerance=1e-3, seed=seed, check=check
    )
    return VisualWords(
        words=clusters.centers,
        whitener=whitener,
        patch=patch,
        stride=stride,
        coding=coding,
        grid=grid,
    )


def all_patches(
    images: Images, *, patch: int, stride: int
) -> Float[Tensor, "image row column dim"]:
    """Every patch as one vector [channel, y, x]."""
    windows = images.unfold(2, patch, stride).unfold(3, patch, stride)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3)


def random_patches(
    images: Images, *, patch: int, count: int, seed: int
) -> Float[Tensor, "patch dim"]:
    """`count` patches from random images and positions."""
    generator = torch.Generator().manual_seed(seed)
    limits = (len(images), images.shape[2] - patch + 1, images.shape[3] - patch + 1)
    image, top, left = (
        torch.randint(limit, (count,), generator=generator).to(images.device) for limit in limits
    )
    inside = torch.arange(patch, device=images.device)
    rows = (top[:, None] + inside)[:, None, :, None]
    columns = (left[:, None] + inside)[:, None, None, :]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return as_floats(images[image[:, None, None, None], channels, rows, columns]).flatten(1)


def normalise_contrast(patches: Float[Tensor, "patch dim"]) -> Float[Tensor, "patch dim"]:
    """Subtract each patch's mean and divide by its standard deviation."""
    centred = patches - patches.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)  # torch.var_mean takes 20× as long
    return centred.mul_((variance + CONTRAST_FLOOR).rsqrt_())


def triangle_codes(
    vectors: Float[Tensor, "patch dim"], words: Float[Tensor, "word dim"]
) -> Float[Tensor, "patch word"]:
    """max(0, μ − z): z the distance to each word, μ its mean over the words."""
    distances = _squared_distances(vectors, words).clamp_min_(0).sqrt_()
    mean = distances.mean(1, keepdim=True)
    return distances.neg_().add_(mean).clamp_min_(0)


def hard_codes(
    vectors: Float[Tensor, "patch dim"], words: Float[Tensor, "word dim"]
) -> Float[Tensor, "patch word"]:
    """1 for the nearest word, 0 for the others."""
    squares = _squared_distances(vectors, words)
    return torch.zeros_like(squares).scatter_(1, squares.argmin(1, keepdim=True), 1)


CODINGS = {"hard": hard_codes, "triangle": triangle_codes}


def _squared_distances(vectors: Tensor, words: Tensor) -> Tensor:
    # Two more columns carry both squares: one product, no further pass over its result.
    own, others = vectors.square().sum(1, keepdim=True), words.square().sum(1, keepdim=True)
    first = torch.cat((vectors, own, torch.ones_like(own)), dim=1)
    second = torch.cat((-2 * words, torch.ones_like(others), others), dim=1)
    return first @ second.T


def _cells(rows: int, columns: int, grid: int) -> Tensor:
    """[cell, position]: the weight of each position in the average of each cell."""
    down = (torch.arange(rows) * grid).div(rows, rounding_mode="floor")
    across = (torch.arange(columns) * grid).div(columns, rounding_mode="floor")
    cell = (down[:, None] * grid + across).flatten()
    member = torch.nn.functional.one_hot(cell, grid * grid).T.float()
    return member / member.sum(1, keepdim=True)
