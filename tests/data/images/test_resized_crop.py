"""Crops resized: against Pillow, and both paths against one another."""

import numpy as np
import pytest
import torch
from PIL import Image

from thalweg.data.images.resized_crop import resized_crops

BOXES = [(0, 0, 60, 80), (3, 7, 40, 50), (20, 30, 40, 50), (59, 0, 1, 80), (10, 11, 12, 13)]


def images(channels=3):
    chance = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(BOXES), channels, 15, 20, generator=chance) * 255
    smooth = torch.nn.functional.interpolate(coarse, (60, 80), mode="bicubic").clamp(0, 255)
    noise = torch.randn(smooth.shape, generator=chance) * 20
    return (smooth + noise).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def by_pillow(image, box, size):
    """Pillow's antialiased bilinear filter, the usual reference."""
    top, left, height, width = box
    inside = image[top : top + height, left : left + width].numpy()
    made = [
        np.array(Image.fromarray(inside[..., c]).resize(size[::-1], Image.Resampling.BILINEAR))
        for c in range(image.shape[-1])
    ]
    return np.stack(made, axis=-1)


@pytest.mark.parametrize("size", [(60, 80), (32, 32), (7, 100)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32], ids=str)
def test_crops_are_those_of_pillow(size, channels, kind):
    raw = images(channels)
    found = resized_crops(raw.to(kind), torch.tensor(BOXES), size)
    assert found.dtype == kind
    assert found.is_contiguous()
    for image, box, made in zip(raw, BOXES, found, strict=True):
        # Pillow rounds after either direction; a pixel may come out one apart from the exact one.
        np.testing.assert_allclose(made.double(), by_pillow(image, box, size), atol=1.02)


def test_a_crop_that_shrinks_averages_instead_of_skipping():
    stripes = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    for kind in (torch.uint8, torch.float32):
        whole = torch.tensor([[0, 0, 64, 64]])
        found = resized_crops(stripes.to(kind), whole, (16, 16)).float()
        assert (found - 127.5).abs().max() < 12  # picking every fourth column would give 0 or 255


def test_the_whole_image_at_its_own_size_is_itself():
    raw = images()
    whole = torch.tensor([[0, 0, 60, 80]]).expand(len(raw), -1)
    assert torch.equal(resized_crops(raw, whole, (60, 80)), raw)
    torch.testing.assert_close(resized_crops(raw.float(), whole, (60, 80)), raw.float())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(60, 80), (31, 97)], ids=str)
def test_eight_bits_are_those_of_interpolate(channels, size):
    raw = images(channels)
    made = [
        torch.nn.functional.interpolate(
            image[top : top + height, left : left + width].movedim(2, 0)[None],
            size,
            mode="bilinear",
            antialias=True,
        )
        for image, (top, left, height, width) in zip(raw, BOXES, strict=True)
    ]
    expected = torch.cat(made).movedim(1, 3)
    assert torch.equal(resized_crops(raw, torch.tensor(BOXES), size), expected)
    larger = torch.cat((raw, raw))  # of which ours is a part with a place of its own
    assert torch.equal(resized_crops(larger[len(raw) :], torch.tensor(BOXES), size), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32], ids=str)
def test_images_are_mirrored_before_they_are_cropped(channels, kind):
    raw, boxes = images(channels).to(kind), torch.tensor(BOXES)
    mirrored = torch.tensor([True, False, True, True, False])
    turned = torch.where(mirrored[:, None, None, None], raw.flip(2), raw)
    found = resized_crops(raw, boxes, (33, 47), mirrored=mirrored)
    assert torch.equal(found, resized_crops(turned, boxes, (33, 47)))


def test_one_image_for_all_is_cropped_at_each_box():
    raw = images()[:1].expand(len(BOXES), -1, -1, -1)
    boxes = torch.tensor(BOXES)
    assert torch.equal(
        resized_crops(raw, boxes, (32, 32)), resized_crops(raw.clone(), boxes, (32, 32))
    )
