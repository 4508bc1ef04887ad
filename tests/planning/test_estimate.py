"""What a dry run expects, against what then happens."""

from time import perf_counter

import pytest
import torch

from thalweg.api import estimate, plan, train


def test_bytes_are_those_of_the_tensors(scans):
    """An MLP of 64 → 256 → 256 → 10 by hand: AdamW keeps two numbers a weight."""
    edits = {"optimizer.name": "adamw", "optimizer.ema_decay": 0.9, "model.changes": {}}
    found = estimate(plan(scans, model="mlp", batch_size=32, edits=edits))
    weights = 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert found.weights == 2 * 4 * weights  # and their average
    assert found.gradients == 4 * weights
    assert found.optimizer == pytest.approx(2 * 4 * weights, rel=0.001)  # and a count a tensor
    # two layers, in place rectified or not, and the logits
    assert 4 * 32 * (256 * 2 + 10) <= found.activations <= 4 * 32 * (256 * 4 + 10)
    assert found.memory == sum((found.weights, found.gradients, found.optimizer, found.activations))


def test_seconds_are_of_the_right_size(scans, tmp_path):
    """Within a factor of a few, on a machine that others use as well."""
    ready = plan(scans, model="convnet", epochs=5, batch_size=32)
    found = estimate(ready)
    since = perf_counter()
    train(scans, model="convnet", epochs=5, batch_size=32, out=tmp_path)
    took = perf_counter() - since
    assert 0 < found.step_seconds < found.seconds < 3 * took


def test_it_leaves_the_random_state_and_expects_nothing_of_a_loss_that_explodes(scans):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = estimate(plan(scans, model="mlp", lr=1e30))
    assert torch.equal(torch.get_rng_state(), before)
    assert found.memory > 0
