"""Each change against Pillow or its own definition; a batch against a loop over its images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from thalweg.data.images import random_ops
from thalweg.data.images.augment import Augment
from thalweg.data.images.random_ops import OPS, random_op


def images(count=3, height=12, width=10, channels=3):
    generator = torch.Generator().manual_seed(1)
    shape = (count, height, width, channels)
    return torch.randint(0, 256, shape, generator=generator).float()


STRENGTH = torch.tensor([0.5, -0.5, 1.0])
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "colour": ImageEnhance.Color,
    "sharpness": ImageEnhance.Sharpness,
}


def pillow(picture):
    return Image.fromarray(picture.byte().numpy())


@pytest.mark.parametrize("name", ENHANCERS)
def test_enhancements_are_pillows(name):
    found = getattr(random_ops, name)(images(), STRENGTH).clamp(0, 255)
    for picture, strength, ours in zip(images(), STRENGTH.tolist(), found, strict=True):
        theirs = ENHANCERS[name](pillow(picture)).enhance(1 + 0.9 * strength)
        inner = slice(1, -1) if name == "sharpness" else slice(None)  # Pillow leaves the border
        difference = (ours - torch.tensor(np.asarray(theirs)).float())[inner, inner].abs()
        assert difference.max() <= 2.0  # Pillow rounds in between


def test_posterize_and_autocontrast_are_pillows():
    found = random_ops.posterize(images(), torch.tensor([1.0, -0.5, 0.0]))
    for picture, bits, ours in zip(images(), (4, 6, 8), found, strict=True):
        theirs = np.asarray(ImageOps.posterize(pillow(picture), bits))
        assert np.array_equal(ours.numpy(), theirs)
    dim = images() / 2 + 30
    for picture, ours in zip(
        dim.byte().float(), random_ops.autocontrast(dim.byte().float(), STRENGTH), strict=True
    ):
        expected = torch.tensor(np.asarray(ImageOps.autocontrast(pillow(picture)))).float()
        assert (ours - expected).abs().max() <= 1.0
    flat = torch.full((1, 4, 4, 3), 7.0)
    assert torch.equal(random_ops.autocontrast(flat, STRENGTH[:1]), flat)


def test_a_turn_is_pillows_and_shifts_move_whole_pixels():
    smooth = torch.nn.functional.avg_pool2d(images(1, 32, 32).permute(0, 3, 1, 2), 9, 1, 4)
    smooth = smooth.permute(0, 2, 3, 1).contiguous()
    strength = torch.tensor([0.7])
    there = random_ops.rotate(smooth, strength)
    turned = pillow(smooth[0]).rotate(0.7 * 30, Image.Resampling.BILINEAR)
    middle = (slice(10, 22), slice(10, 22))
    theirs = torch.tensor(np.asarray(turned)).float()
    assert (there[0] - theirs)[middle].abs().max() < 2
    assert (there - smooth)[0][middle].abs().mean() > 2.5
    grid = images(1, 10, 10)
    moved = random_ops.shift_x(grid, torch.tensor([1.0]))  # 30 % of 10 pixels
    torch.testing.assert_close(moved[:, :, :7], grid[:, :, 3:], atol=1e-3, rtol=0)
    down = random_ops.shift_y(grid, torch.tensor([1.0]))
    torch.testing.assert_close(down[:, :7], grid[:, 3:], atol=1e-3, rtol=0)
    sheared = random_ops.shear_x(images(1, 11, 11), torch.tensor([1.0]))
    torch.testing.assert_close(
        sheared[:, 5], images(1, 11, 11)[:, 5], atol=1e-3, rtol=0
    )  # the middle row stays


@pytest.mark.parametrize("change", OPS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_no_strength_changes_nothing_and_a_batch_is_its_images(change, channels):
    batch = images(channels=channels)
    if change is not random_ops.autocontrast:
        torch.testing.assert_close(change(batch, torch.zeros(3)), batch, atol=1e-3, rtol=0)
    together = change(batch, STRENGTH)
    alone = torch.cat([change(batch[i : i + 1], STRENGTH[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)
    assert torch.equal(batch, images(channels=channels))


@pytest.mark.parametrize("change", OPS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [2, 5, 16])
def test_an_image_has_the_same_bits_however_many_are_changed_with_it(change, channels, count):
    batch = images(count, 17, 15, channels)  # odd sides: no image begins at a full block of pixels
    strength = torch.linspace(-1, 1, count)
    together = change(batch, strength)
    for size in (1, 2, 3):
        alone = [
            change(*pair)
            for pair in zip(batch.clone().split(size), strength.split(size), strict=True)
        ]
        assert torch.equal(torch.cat(alone), together)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 64])
def test_a_grey_is_added_from_left_to_right_on_every_processor(count):
    colours = 255 * torch.rand(count, 3, generator=torch.Generator().manual_seed(count))
    weighed = colours.numpy() * np.asarray(random_ops.GREY, np.float32)
    greys = weighed[:, 0] + weighed[:, 1] + weighed[:, 2]
    assert np.array_equal(random_ops.grey_values(colours).numpy(), greys)


def test_the_mean_of_one_large_image_does_not_depend_on_the_others():
    batch = 255 * torch.rand(3, 256, 384, 1, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = [random_ops.image_means(image) for image in batch.clone().split(1)]
        assert torch.equal(torch.cat(alone), random_ops.image_means(batch))
    finally:
        torch.set_num_threads(threads)


def test_changes_are_drawn_for_each_image_from_the_generator_alone():
    batch = images(1).expand(200, -1, -1, -1)

    def drawn(seed):
        return random_op(batch, torch.Generator().manual_seed(seed), magnitude=1.0)

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert len(torch.unique(drawn(0).flatten(1), dim=0)) > 150
    assert drawn(0).amin() >= 0
    assert drawn(0).amax() <= 255
    same = random_op(batch, torch.Generator().manual_seed(0), magnitude=0.0)
    assert ((same - batch).flatten(1).abs().amax(1) < 1e-2).double().mean() > 0.85  # autocontrast


def test_they_are_part_of_augmentation_and_leave_its_other_draws_alone():
    raw = images(40, 16, 16).byte()
    flipped = Augment(flip=True, random_ops=2, random_magnitude=0.0)
    found = flipped(raw, torch.Generator().manual_seed(3))
    plain = Augment(flip=True)(raw, torch.Generator().manual_seed(3)).float()
    close = (found - plain).flatten(1).abs().amax(1) < 1e-2
    assert close.double().mean() > 0.7  # the others met autocontrast


def test_what_is_drawn_beside_a_gpus_generator_follows_from_its_seed_and_the_turn():
    def drawn(seed, turn):
        beside = random_ops._cpu_generator(torch.Generator().manual_seed(seed), turn)
        return torch.randint(len(OPS), (50,), generator=beside).tolist()

    assert drawn(5, 0) == drawn(5, 0)
    assert drawn(5, 0) != drawn(5, 1)
    assert drawn(2**63 - 1, 1) == drawn(0, 0)  # no seed is too large


@pytest.mark.gpu
def test_on_a_gpu_no_change_waits_for_it():
    batch = images(64).cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    expected = random_op(batch, generator, magnitude=0.5, turn=1)  # constants are sent here
    generator.manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = random_op(batch, generator, magnitude=0.5, turn=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, expected)
    assert found.amin() >= 0
    assert found.amax() <= 255
