"""The estimate of a dry run, worked out by hand."""

from math import ceil

import pytest
import torch

from thalweg.api import estimate, plan


def test_bytes_are_those_of_the_tensors(scans):
    """An MLP of 64 → 256 → 256 → 10 by hand: AdamW keeps two numbers a weight."""
    edits = {"optimizer.name": "adamw", "optimizer.ema_decay": 0.9, "model.changes": {}}
    expected = estimate(plan(scans, model="mlp", batch_size=32, edits=edits))
    weights = 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert expected.weights == 2 * 4 * weights  # and their average
    assert expected.gradients == 4 * weights
    assert expected.optimizer == pytest.approx(2 * 4 * weights, rel=0.001)  # and a count a tensor
    # two layers, in place rectified or not, and the logits
    assert 4 * 32 * (256 * 2 + 10) <= expected.activations <= 4 * 32 * (256 * 4 + 10)
    assert expected.memory == sum(
        (expected.weights, expected.gradients, expected.optimizer, expected.activations)
    )


def test_seconds_are_those_of_all_updates_and_of_a_third_of_a_step_for_each_batch_validated(scans):
    """The step's own time depends on what else the machine does."""
    ready = plan(scans, model="convnet", epochs=5, batch_size=32)
    expected = estimate(ready)
    assert expected.step_seconds > 0
    validated = ceil(ready.dataset.facts.counts["val"] / 32) * (5 + 1)
    steps = ready.steps + validated / 3
    assert expected.seconds == pytest.approx(expected.step_seconds * steps)


def test_it_leaves_the_random_state_and_expects_nothing_of_a_loss_that_explodes(scans):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    expected = estimate(plan(scans, model="mlp", lr=1e30))
    assert torch.equal(torch.get_rng_state(), before)
    assert expected.memory > 0
