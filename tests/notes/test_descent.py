"""Steps, batches and what noise does to them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from notes.fitting import accuracy, fit, scans
from torch import nn
from torch.nn.utils import parameters_to_vector

from thalweg.api import plan, train
from thalweg.data import Batches
from thalweg.models.mlp import mlp
from thalweg.optim.composable import ComposableOptimizer, gradient, one, root_average
from thalweg.record.quantities import LOSS, VAL_LOSS


@pytest.fixture(autouse=True)
def _seeded(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)


def valley(weights):
    """Long and flat along the first weight, steep across the second."""
    return 1e-3 * (weights[0] - 100).square() / 2 + 10 * weights[1].square() / 2


def sideways(optimizer_of, *, steps=600, decayed=False):
    """The largest distance across the valley after the first hundred steps."""
    weights = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_of([weights])
    lr, seen = optimizer.param_groups[0]["lr"], []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * ((1 - step / steps) if decayed else 1)
        optimizer.zero_grad()
        valley(weights).backward()
        optimizer.step()
        seen.append(abs(weights[1].item()))
    return max(seen[100:]), max(seen[-20:])


def test_a_long_flat_stretch_lets_the_size_shrink_until_the_step_bursts_sideways():
    """RMSProp: σ across the valley decays while its gradient is 0, then a tiny one is blown up.
    AdaGrad's sum never shrinks; plain descent has no σ. A falling rate cures it."""

    def rms(weights):
        return ComposableOptimizer(weights, lr=0.1, direction=gradient, size=root_average(0.9))

    def plain(weights):
        return ComposableOptimizer(weights, lr=0.1, direction=gradient, size=one)

    burst, at_the_end = sideways(rms)
    assert burst > 0.04
    assert at_the_end > 0.01  # it goes on
    assert sideways(plain)[0] < 1e-6
    assert sideways(rms, decayed=True)[1] < 0.2 * at_the_end


def test_random_search_of_weights_is_a_joke_beside_descent():
    """A thousand random linear classifiers against fifty steps."""
    train_data, test = scans()
    best = 0.0
    for _ in range(1000):
        weights = torch.randn(10, 64) * 0.1
        guess = (train_data[0] @ weights.T).argmax(1)
        best = max(best, (guess == train_data[1]).double().mean().item())
    model = mlp(10, input_shape=(64,), depth=0)
    fit(model, train_data, steps=50, lr=0.1)
    assert best < 0.4 < 0.8 < accuracy(model, test)


def test_an_epoch_is_one_pass_over_all_samples_in_an_order_of_its_own(tmp_path):
    """Batches, updates and epochs are counted; "all parameters" in a note means data (E30). G6"""
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(50) % 2)
    ready = plan(tmp_path / "few.npz", batch_size=16, epochs=3, model="mlp")
    count = ready.dataset.facts.counts["train"]
    assert ready.steps_per_epoch == -(-count // 16)
    batches = Batches(ready.dataset, "train", batch_size=16, seed=0, shuffle=True)
    epochs = [
        np.concatenate([batches.rows(e * len(batches) + i) for i in range(len(batches))])
        for e in range(3)
    ]
    everyone = sorted(ready.dataset.indices["train"].tolist())
    assert all(sorted(rows.tolist()) == everyone for rows in epochs)
    assert len({tuple(rows.tolist()) for rows in epochs}) == 3
    run = train(tmp_path / "few.npz", batch_size=16, epochs=3, model="mlp", out=tmp_path)
    assert len(run.history.series(LOSS)) == ready.steps == 3 * ready.steps_per_epoch
    assert len(run.history.series(VAL_LOSS)) == 3
    whole = Batches(ready.dataset, "train", batch_size=count)
    assert len(whole) == 1  # full batch: one update an epoch


@pytest.mark.slow
def test_large_batches_lose_by_their_fewer_updates():
    """Equal epochs: the larger the batch, the worse even in training. With as many updates as the
    small one makes, the deficit is gone: that control a plain study leaves out."""
    train_data, _ = scans()
    samples = len(train_data[0])
    losses = {}
    for batch in (10, 100, 1200):
        for budget, steps in (("epochs", 4 * samples // batch), ("updates", 4 * samples // 10)):
            found = []
            for seed in range(2):
                torch.manual_seed(seed)
                model = mlp(10, input_shape=(64,), width=32, depth=1)
                fit(model, train_data, steps=steps, lr=0.1, batch=batch, seed=seed)
                with torch.no_grad():
                    found.append(F.cross_entropy(model(train_data[0]), train_data[1]).item())
            losses[batch, budget] = np.mean(found)
    assert losses[10, "epochs"] < losses[100, "epochs"] < losses[1200, "epochs"]
    assert losses[1200, "epochs"] > 10 * losses[10, "epochs"]
    assert losses[1200, "updates"] < 2 * losses[10, "updates"]


def gradients(model, data, size, count):
    """Gradients of `count` disjoint batches, a row each."""
    rows = []
    for index in range(count):
        part = slice(index * size, (index + 1) * size)
        model.zero_grad()
        F.cross_entropy(model(data[0][part]), data[1][part]).backward()
        rows.append(parameters_to_vector([weight.grad for weight in model.parameters()]))
    return torch.stack(rows)


def test_each_batch_has_a_surface_of_its_own():
    """Where the full gradient is nought, those of batches are not: they leave the place. G8"""
    train_data, _ = scans()
    few = train_data[0][:200].double(), train_data[1][:200]
    model = nn.Linear(64, 10).double()
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=400,
        tolerance_grad=1e-9,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        penalty = 1e-2 * sum(weight.square().sum() for weight in model.parameters())
        value = F.cross_entropy(model(few[0]), few[1]) + penalty
        value.backward()
        return value

    optimizer.step(closure)
    closure()
    full = parameters_to_vector([weight.grad for weight in model.parameters()]).norm()
    assert full < 1e-6
    decay = 2e-2 * parameters_to_vector(model.parameters()).detach()
    batches = gradients(model, few, 20, 10) + decay
    assert batches.norm(dim=1).min() > 1e4 * full
    assert batches.mean(0).norm() < 1e-6  # they are the parts of it


def test_the_fewer_samples_the_noisier_the_gradient():
    """Noise falls as 1/√B; at B = 1 many a step points away from the true gradient. G9"""
    train_data, _ = scans()
    model = mlp(10, input_shape=(64,), width=32, depth=1)
    fit(model, train_data, steps=100, lr=0.1)
    true = gradients(model, train_data, 1200, 1)[0]
    noise, wrong = {}, {}
    for size in (1, 16, 256):
        found = gradients(model, train_data, size, min(1200 // size, 300))
        noise[size] = (found - true).square().sum(1).mean().sqrt().item()
        wrong[size] = (found @ true < 0).double().mean().item()
    assert noise[1] / noise[16] == pytest.approx(4, rel=0.3)
    assert wrong[1] > 2 * wrong[16] > wrong[256] == 0.0
