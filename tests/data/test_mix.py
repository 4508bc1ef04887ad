"""Mixup and cutmix."""

from typing import Any

import pytest
import torch

from thalweg.data import Batch
from thalweg.data.mix import Mix, cutmix, mixup


def batch(count=8):
    inputs = torch.arange(count).float().reshape(count, 1, 1, 1).expand(count, 3, 12, 10)
    return Batch(inputs, torch.arange(count))


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("seed", range(6))
def test_targets_say_how_much_of_whom_is_in_the_picture(mix, seed):
    """Pixel values are class numbers here, so an image's mean is its target's expectation."""
    mixed = mix(batch(), alpha=1.0, num_classes=8, generator=seeded(seed))
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(8))
    expected = mixed.targets @ torch.arange(8).float()
    torch.testing.assert_close(mixed.inputs.mean((1, 2, 3)), expected)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixing_is_a_function_of_the_seed_and_leaves_the_batch_alone(mix):
    given = batch()
    first, second = (mix(given, alpha=0.5, num_classes=8, generator=seeded()) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.targets, second.targets)
    assert torch.equal(given.inputs, batch().inputs)


def test_shares_follow_the_beta_distribution():
    generator = seeded()
    shares = torch.stack(
        [
            mixup(batch(2), alpha=2.0, num_classes=2, generator=generator).targets[0, 0]
            for _ in range(2000)
        ]
    )
    mixed = shares[shares < 1]  # where the partner is another
    assert mixed.mean().item() == pytest.approx(0.5, abs=0.03)
    assert mixed.var().item() == pytest.approx(1 / 20, rel=0.15)  # 1 / (4 (2α + 1))


def test_cutmix_pastes_one_rectangle():
    mixed: Any = cutmix(batch(), alpha=1.0, num_classes=8, generator=seeded(1))
    changed = mixed.inputs[:, 0] != batch().inputs[:, 0]
    where = changed.any(dim=0)
    assert where.sum() == where.any(1).sum() * where.any(0).sum() > 0


def test_a_stream_of_mixed_batches_goes_on_from_anywhere():
    """Batch `number` is mixed the same whoever asks for it, and both kinds take turns."""
    mix = Mix(mixup=0.5, cutmix=0.5, num_classes=8)

    def from_(start):
        return [
            m
            for m, _ in zip(
                mix.stream(iter([batch()] * 30), seed=4, start=start),
                range(30 - start),
                strict=False,
            )
        ]

    whole, later = from_(0), from_(11)
    for first, second in zip(whole[11:], later, strict=True):
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.targets, second.targets)
    cut = [len(mixed.inputs[0].unique()) > 1 for mixed in whole]  # a rectangle of another number
    assert 3 < sum(cut) < 27
    other: Any = next(mix.stream(iter([batch()]), seed=5))
    assert not torch.equal(other.inputs, whole[0].inputs)


def test_naive_loops_give_the_same_mixture():
    """One sample and one pixel at a time, with the same draws."""
    given: Any = batch()
    mixed: Any = cutmix(batch(), alpha=1.0, num_classes=8, generator=seeded(1))
    generator = seeded(1)
    partner = torch.randperm(8, generator=generator)
    where = (mixed.inputs != given.inputs).any(0)[0]
    for sample in range(8):
        for y in range(12):
            for x in range(10):
                source = partner[sample] if where[y, x] else sample
                assert mixed.inputs[sample, 0, y, x] == given.inputs[source, 0, y, x]


def test_values_are_blended_as_values():
    given = Batch(batch().inputs, torch.arange(8.0))
    mixed = mixup(given, alpha=1.0, num_classes=1, generator=seeded())
    torch.testing.assert_close(mixed.inputs.mean((1, 2, 3)), mixed.targets)


def test_without_a_share_nothing_is_mixed():
    given = batch()
    assert Mix(num_classes=8)(given, seeded()) is given
