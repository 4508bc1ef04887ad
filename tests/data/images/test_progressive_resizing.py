"""Smaller images early in a training. Independent truth: Pillow's reducing bilinear filter."""

import numpy as np
import pytest
import torch
from PIL import Image

from thalweg.data.images.progressive_resizing import progressive_resizing, resize_longer_side


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_made_smaller_as_pillow_makes_them(channels):
    torch.manual_seed(0)
    raw = torch.randint(0, 256, (4, 32, 24, channels), dtype=torch.uint8)
    found = resize_longer_side(raw, size=20)
    assert found.shape == (4, 20, 15, channels)
    assert found.dtype == torch.uint8
    for image, small in zip(raw.numpy(), found.numpy(), strict=True):
        bands = [Image.fromarray(np.ascontiguousarray(image[..., k])) for k in range(channels)]
        expected = [np.asarray(band.resize((15, 20), Image.Resampling.BILINEAR)) for band in bands]
        assert np.abs(np.stack(expected, -1).astype(int) - small).max() <= 1


def test_bytes_and_floats_agree_within_a_rounding():
    torch.manual_seed(0)
    raw = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    as_bytes, as_floats = (resize_longer_side(values, size=9) for values in (raw, raw.float()))
    assert (as_bytes.float() - as_floats).abs().max() <= 1


def test_only_the_first_batches_are_shrunk():
    raw = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    resize = progressive_resizing({"4": 0.2, "6": 0.4}, batches=10)
    sides = [resize(raw, number).shape[1] for number in range(10)]
    assert sides == [4] * 2 + [6] * 4 + [8] * 4
    assert resize(raw, resize.batches) is raw
    assert resize.last_change(10) == 6
    assert progressive_resizing({"4": 0.2, "6": 0.8}, batches=10).last_change(10) == 2
    assert progressive_resizing({"4": 1.0}, batches=10).last_change(10) == 0
    assert progressive_resizing({}, batches=10) is None
