"""Features of images against scikit-image, matplotlib and loops."""

import numpy as np
import pytest
import torch
from classical.agreement import agree, as_users_run_it, bytes_like, normal
from matplotlib.colors import rgb_to_hsv
from skimage.feature import hog as skimage_hog
from sklearn.cluster import KMeans

from thalweg.classical.features import (
    colour_histogram,
    concatenation,
    hog,
    standardisation,
    visual_words,
)
from thalweg.classical.features.visual_words import all_patches, normalise_contrast, random_patches
from thalweg.errors import DataError, UnknownNameError, UsageError

IMAGES = bytes_like(6, 3, 34, 41, seed=1)
SMOOTH = torch.nn.functional.interpolate(torch.rand(5, 3, 6, 6), (32, 32), mode="bicubic")


@pytest.mark.parametrize("bins", [1, 10, 37])
def test_hue_histogram_is_matplotlib_s(bins):
    images = torch.cat((IMAGES, torch.full((1, 3, 34, 41), 90, dtype=torch.uint8)))  # one grey
    images[0, :, :9] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
    hsv = rgb_to_hsv(images.permute(0, 2, 3, 1).double().numpy() / 255)
    expected = [np.histogram(one, bins, (0, 1))[0] / one.size for one in hsv[..., 0]]
    found = colour_histogram(images, bins=bins)
    # Both round: a hue on the edge of two bins may fall on either side.
    assert (found.double() - torch.tensor(np.array(expected))).abs().max() < 3 / (34 * 41)
    agree(found.sum(1), torch.ones(7))


def test_rgb_histogram_is_numpy_s():
    found = colour_histogram(IMAGES, bins=4, space="rgb").view(6, 3, 4)
    expected = [[np.histogram(c, 4, (0, 256))[0] / c.size for c in i] for i in IMAGES.numpy()]
    agree(found, np.array(expected))
    outside = torch.tensor([-3.0, 0.5, 9.0])[None, :, None, None].expand(1, 3, 2, 2)
    assert colour_histogram(outside, bins=2, space="rgb").tolist() == [[1, 0, 0, 1, 0, 1]]


@pytest.mark.parametrize("images", [IMAGES, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("normalisation", ["L2", "L2-Hys"])
@pytest.mark.parametrize(("orientations", "cell"), [(9, 8), (7, 5)])
def test_hog_is_scikit_image_s(images, block, normalisation, orientations, cell):
    images = images.double() / (255 if images.dtype == torch.uint8 else 1)
    found = hog(
        images, orientations=orientations, cell=cell, block=block, normalisation=normalisation
    )
    for row, image in zip(found, images, strict=True):
        expected = skimage_hog(
            image.permute(1, 2, 0).numpy(),
            orientations=orientations,
            pixels_per_cell=(cell, cell),
            cells_per_block=(block, block),
            block_norm=normalisation,
            channel_axis=-1,
        )
        agree(row, expected, digits=6)


def test_hog_of_a_grey_32_px_image_has_144_numbers_and_knows_an_edge():
    step = torch.zeros(1, 1, 32, 32)
    step[..., 16:] = 1
    found = hog(step, normalisation="none").view(4, 4, 9)
    assert found.numel() == 144
    assert found[..., 1:].abs().max() == 0  # all change is along x: the first orientation
    assert found[:, 1:3, 0].min() > 0


def test_hog_in_float32_and_bytes_is_hog():
    agree(hog(IMAGES), hog(IMAGES.double() / 255), digits=4)


def test_features_side_by_side():
    both = concatenation(hog, colour_histogram)(SMOOTH)
    assert both.shape == (5, 154)
    agree(both[:, :144], hog(SMOOTH))
    agree(both[:, 144:], colour_histogram(SMOOTH))
    with pytest.raises(UsageError, match="nothing to concatenate"):
        concatenation()


def test_standardisation_uses_the_statistics_it_was_fitted_on():
    train, test = normal(50, 4, seed=1) * 3 + 2, normal(20, 4, seed=2)
    train[:, 1] = 7
    scale = standardisation(train)
    agree(scale(train).mean(0) + 1, torch.ones(4), digits=5)
    agree(scale(train).std(0, correction=0)[[0, 2, 3]], torch.ones(3), digits=5)
    agree(scale(test)[:, 0], (test[:, 0] - train[:, 0].mean()) / train[:, 0].std(correction=0))
    assert scale(train)[:, 1].abs().max() == 0


def codes_by_loop(words, image):
    """Coates, Lee & Ng's code for one image, patch by patch, in float64."""
    pixels = image.double() / 255
    side = words.patch
    tops = range(0, pixels.shape[1] - side + 1, words.stride)
    lefts = range(0, pixels.shape[2] - side + 1, words.stride)
    cells = torch.zeros(words.grid**2, len(words.words), dtype=torch.float64)
    counts = torch.zeros(words.grid**2)
    for r, top in enumerate(tops):
        for c, left in enumerate(lefts):
            patch = pixels[:, top : top + side, left : left + side].flatten()
            patch = (patch - patch.mean()) / (patch.var(correction=0) + 10 / 255**2).sqrt()
            vector = (patch - words.whitener.mean) @ words.whitener.matrix
            distance = (words.words.double() - vector).norm(dim=1)
            if words.coding == "hard":
                code = torch.zeros_like(distance)
                code[distance.argmin()] = 1
            else:
                code = (distance.mean() - distance).clamp_min(0)
            cell = r * words.grid // len(tops) * words.grid + c * words.grid // len(lefts)
            cells[cell] += code
            counts[cell] += 1
    return (cells / counts[:, None]).flatten()


@pytest.mark.parametrize("coding", ["hard", "triangle"])
@pytest.mark.parametrize(("stride", "grid"), [(1, 2), (3, 1), (2, 3)])
def test_visual_words_are_their_loop(coding, stride, grid):
    images = (SMOOTH.clamp(0, 1) * 255).byte()[:, :, :14, :17]
    words = visual_words(
        images, num_words=11, stride=stride, grid=grid, coding=coding, num_patches=500
    )
    found = words(images)
    assert found.shape == (5, 11 * grid**2)
    agree(found[3], codes_by_loop(words, images[3]), digits=4)


def test_words_quantise_whitened_patches_as_well_as_scikit_learn_s():
    words = visual_words(SMOOTH, num_words=8, num_patches=2000, seed=3)
    patches = normalise_contrast(random_patches(SMOOTH, patch=6, count=2000, seed=3))
    vectors = words.whitener(patches)
    ours = torch.cdist(vectors.double(), words.words.double()).amin(1).square().sum()
    assert ours <= 1.05 * KMeans(8, n_init=3, random_state=0).fit(vectors).inertia_


def test_hard_codes_are_shares_and_seeds_repeat():
    first, again = (visual_words(IMAGES, num_words=5, coding="hard")(IMAGES) for _ in range(2))
    assert torch.equal(first, again)
    agree(first.view(6, 4, 5).sum(2), torch.ones(6, 4), digits=5)


def test_patches_are_unfold_s_and_flat_ones_stay_flat():
    patches = all_patches(SMOOTH, patch=6, stride=2)
    unfolded = torch.nn.functional.unfold(SMOOTH, 6, stride=2).transpose(1, 2)
    agree(patches.flatten(1, 2), unfolded)
    assert normalise_contrast(torch.full((3, 108), 0.4)).abs().max() < 1e-4


ERRORS = [
    (lambda: hog(torch.rand(2, 3, 7, 32)), DataError, "at least 8 are needed"),
    (lambda: hog(torch.rand(2, 3, 15, 32), block=2), DataError, "at least 16"),
    (lambda: hog(torch.full((1, 1, 8, 8), torch.nan)), DataError, "finite"),
    (lambda: as_users_run_it(hog)(torch.rand(3, 32, 32)), DataError, "channels come last"),
    (lambda: hog(torch.zeros(0, 3, 9, 9)), DataError, "at least one"),
    (lambda: hog(torch.zeros(1, 3, 9, 9, dtype=torch.int64)), DataError, "uint8 or floating"),
    (lambda: hog(SMOOTH, orientations=0), UsageError, "orientations must lie in 1…180"),
    (lambda: as_users_run_it(hog)(SMOOTH, normalisation="L3"), UnknownNameError, "L3"),
    (lambda: colour_histogram(torch.rand(1, 1, 8, 8)), DataError, r"\[image, 3, y, x\]"),
    (lambda: visual_words(torch.rand(1, 3, 5, 9)), DataError, "at least 7 are needed"),
    (lambda: visual_words(SMOOTH, num_words=9, num_patches=8), UsageError, "num_words"),
    (lambda: visual_words(torch.ones(2, 3, 9, 9), num_words=2), DataError, "do not vary"),
]


@pytest.mark.parametrize(("ask", "kind", "message"), ERRORS)
def test_images_that_cannot_be_described_are_refused(ask, kind, message):
    with pytest.raises(kind, match=message):
        ask()
