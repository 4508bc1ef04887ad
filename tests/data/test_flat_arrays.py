"""An array of two dimensions to a model of images: one image, or refused as rows of numbers."""

import numpy as np
import pytest

from thalweg.data.images.preprocessing import ImagePreprocessing
from thalweg.data.modalities.image import read_object
from thalweg.errors import DataError

GREY = ImagePreprocessing(image_size=8, channels=1, mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize("shape", [(2, 7), (2, 64)])
def test_rows_of_real_numbers_are_no_image(shape):
    with pytest.raises(DataError, match="rows of numbers, or one image") as caught:
        read_object(GREY, np.random.default_rng(0).random(shape))
    assert f"{shape[0]} × {shape[1]}" in caught.value.seen
    assert "array[None]" in caught.value.fix


def test_flattened_pixels_are_no_image():
    with pytest.raises(DataError, match="rows of numbers, or one image"):
        read_object(GREY, np.zeros((3, 64), np.uint8))


@pytest.mark.parametrize(
    ("images", "count"),
    [
        (np.zeros((8, 8)), 1),
        (np.zeros((1, 2, 7)), 1),
        (np.zeros((10, 12), np.uint8), 1),
        (np.zeros((5, 8, 8)), 5),
    ],
    ids=lambda value: str(getattr(value, "shape", "")),
)
def test_images_are_images(images, count):
    assert len(list(read_object(GREY, images))) == count
