"""Augmentation against a naive reference: one image, one pixel at a time, in floating point."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from thalweg.data.batch import part_of
from thalweg.data.images.augment import Augment, Draws

N, H, W = 6, 12, 10


def images(channels=3, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (N, H, W, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def drawn(seed=1):
    """The numbers that the call will draw from the same seed."""
    return Draws(*torch.rand((len(Draws._fields), N), generator=seeded(seed)))


def mirrored(place, size):
    """Reflection without repeating the border, for any distance below the size."""
    if place < 0:
        return -place
    return 2 * (size - 1) - place if place > size - 1 else place


def naive_shifted(augment, image, draws, i):
    reach, padding = 2 * augment.crop_padding + 1, augment.crop_padding
    down = int(draws.down[i].item() * reach) - padding
    right = int(draws.right[i].item() * reach) - padding
    flips = augment.flip and draws.flip[i].item() < 0.5

    def pixel(y, x):
        x = W - 1 - x if flips else x
        row = min(H - 1, max(0, mirrored(y + down, H)))
        return image[row, min(W - 1, max(0, mirrored(x + right, W)))]

    return np.array([[pixel(y, x) for x in range(W)] for y in range(H)])


def naive_box(augment, draws, i):
    area = augment.crop_scale + (1 - augment.crop_scale) * draws.area[i].item()
    ratio = (4 / 3) ** (2 * draws.ratio[i].item() - 1)
    height, width = (
        min(H, round(H * (area / ratio) ** 0.5)),
        min(W, round(W * (area * ratio) ** 0.5)),
    )
    top = int(draws.top[i].item() * (H - height + 1))
    left = int(draws.left[i].item() * (W - width + 1))
    return top, left, height, width


def bilinear(image, y, x):
    """Places beyond the image are its border's."""
    height, width = image.shape[:2]
    y, x = min(height - 1, max(0, y)), min(width - 1, max(0, x))
    y0, x0 = int(np.floor(y)), int(np.floor(x))
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    upper = image[y0, x0] * (1 - dx) + image[y0, x1] * dx
    lower = image[y1, x0] * (1 - dx) + image[y1, x1] * dx
    return upper * (1 - dy) + lower * dy


def naive_resized(image, box):
    """The box enlarged; what is outside of it plays no part."""
    top, left, height, width = box
    inside = image[top : top + height, left : left + width]
    rows = [(y + 0.5) * height / H - 0.5 for y in range(H)]
    columns = [(x + 0.5) * width / W - 0.5 for x in range(W)]
    return np.array([[bilinear(inside, y, x) for x in columns] for y in rows])


def naive_moved(augment, image, draws, i):
    image = naive_shifted(augment, image, draws, i)
    if augment.crop_scale == 1:
        return image
    return naive_resized(image, naive_box(augment, draws, i))


def naive_coloured(augment, image, draws, i):
    """Brightness, contrast about the mean grey, saturation: each as textbooks write it."""
    weights = np.array([0.299, 0.587, 0.114]) if image.shape[-1] == 3 else np.ones(1)
    bright, contrast, saturation = (
        1 + getattr(augment, name) * (2 * getattr(draws, name)[i].item() - 1)
        for name in ("brightness", "contrast", "saturation")
    )
    image = image * bright
    mean = (image @ weights).mean()
    image = (image - mean) * contrast + mean
    grey = (image @ weights)[..., None]
    return np.clip(grey + (image - grey) * saturation, 0, 255)


def naive_cut(augment, image, draws, i, fill):
    image = image.copy()
    side = max(1, round(augment.cutout * H))
    y, x = int(draws.hole_y[i].item() * H), int(draws.hole_x[i].item() * W)
    for row in range(H):
        for column in range(W):
            if 0 <= row - (y - side // 2) < side and 0 <= column - (x - side // 2) < side:
                image[row, column] = fill
    return image


def naive(augment, raw, draws, fill):
    made = []
    for i in range(N):
        image = raw[i].numpy().astype(np.float64)
        image = naive_moved(augment, image, draws, i)
        if augment.brightness or augment.contrast or augment.saturation:
            image = naive_coloured(augment, image, draws, i)
        if augment.cutout:
            image = naive_cut(augment, image, draws, i, fill)
        made.append(image)
    return np.stack(made)


CASES = {
    "nothing": Augment(),
    "flip": Augment(flip=True),
    "crop": Augment(crop_padding=4),
    "flip and crop": Augment(flip=True, crop_padding=3),
    "resized": Augment(crop_scale=0.3),
    "resized, flipped and shifted": Augment(crop_scale=0.5, flip=True, crop_padding=2),
    "brightness": Augment(brightness=0.4),
    "contrast": Augment(contrast=0.4),
    "saturation": Augment(saturation=0.9),
    "colour": Augment(brightness=0.3, contrast=0.3, saturation=0.3),
    "cutout": Augment(cutout=0.4),
    "all": Augment(
        flip=True,
        crop_padding=2,
        crop_scale=0.6,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        cutout=0.3,
    ),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_what_a_loop_over_pixels_gives(name, channels):
    augment, raw = CASES[name], images(channels)
    found = augment(raw.float(), seeded(), fill=100.0)
    expected = naive(augment, raw, drawn(), 100.0)
    np.testing.assert_allclose(found.double().numpy(), expected, atol=2e-2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_eight_bits_differ_by_their_rounding_alone(name, channels):
    augment, raw = CASES[name], images(channels)
    exact = augment(raw.float(), seeded(), fill=100.0)
    found = augment(raw, seeded(), fill=100.0)
    resized, coloured = augment.crop_scale < 1, augment.contrast or augment.brightness
    # A rounding of each direction's pass, and all colours' factors at their largest.
    tolerance = (1.01 * (1.2**3 if coloured else 1)) if resized else 1e-3
    np.testing.assert_allclose(found.double(), exact.double(), atol=tolerance)


WHOLE = ["nothing", "flip", "crop", "flip and crop", "cutout", "resized"]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pixels_stay_eight_bits(name):
    assert CASES[name](images(), seeded()).dtype == torch.uint8


@pytest.mark.parametrize("name", CASES)
def test_the_generator_is_all_the_chance_there_is(name):
    torch.manual_seed(0)
    first = CASES[name](images(), seeded(5))
    state = torch.get_rng_state()
    second = CASES[name](images(), seeded(5))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    if name != "nothing":
        assert not torch.equal(first, CASES[name](images(), seeded(6)))


@pytest.mark.parametrize("name", CASES)
def test_the_raw_batch_is_left_as_it_was(name):
    raw = images()
    before = raw.clone()
    CASES[name](raw, seeded())
    assert torch.equal(raw, before)


def test_each_sample_has_parameters_of_its_own():
    same = images()[:1].expand(N, -1, -1, -1)
    for name in ("crop", "resized", "colour", "cutout"):
        found = CASES[name](same, seeded())
        assert len({sample.numpy().tobytes() for sample in found}) > N // 2


def test_one_more_change_leaves_the_others_as_they_were():
    both = Augment(flip=True, crop_padding=3, cutout=0.2)
    moved = Augment(flip=True, crop_padding=3)(images(), seeded())
    found = both(images(), seeded(), fill=0.0)
    kept = found != 0
    assert torch.equal(found[kept], moved[kept])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_a_part_has_the_bits_of_the_same_rows_of_the_whole(name, channels):
    augment, whole = CASES[name], images(channels)
    together = augment(whole, seeded())
    for count in range(2, N + 1):
        parts = [part_of(N, rank=rank, count=count) for rank in range(count)]
        alone = [augment(whole[p.begin : p.end].clone(), seeded(), part=p) for p in parts]
        assert torch.equal(torch.cat(alone), together)


def test_fill_is_one_value_a_channel():
    fill = torch.tensor([1.0, 2.0, 3.0])
    found = Augment(cutout=2.0)(images(), seeded(), fill=fill)
    assert torch.equal(found, fill.to(torch.uint8).expand_as(found))


def test_strength_is_bounded():
    grey = torch.full((1000, 2, 2, 3), 100, dtype=torch.uint8)
    found = Augment(brightness=0.25)(grey, seeded())
    assert 75 <= found.min() < 77
    assert 123 < found.max() <= 125


def test_it_has_the_fields_of_the_recipe():
    from dataclasses import asdict

    from thalweg.recipes.recipe import AugmentRecipe

    mixed = {"mixup": 0.0, "cutmix": 0.0}  # of whole batches: `data.mix`
    small = {"progressive_resizing": {}}  # before all else
    assert asdict(Augment()) | mixed | small == asdict(AugmentRecipe())
    assert replace(Augment(), flip=True).flip
