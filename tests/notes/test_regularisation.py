"""Worse in training, better in the test."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from notes.fitting import accuracy, fit, loss, scans
from torch import nn

from thalweg.api import plan
from thalweg.data import Augment
from thalweg.models.mlp import mlp
from thalweg.tasks.penalties import l1, l2


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def ridge(features, targets, strength):
    eye = torch.eye(features.shape[1], dtype=torch.float64)
    return torch.linalg.solve(features.T @ features + strength * eye, features.T @ targets)


def powers(x, degree):
    return torch.stack([x**k for k in range(degree + 1)], dim=1)


def test_a_penalty_worsens_training_and_betters_the_test_up_to_a_point():
    """A polynomial of degree 12 through 15 noisy points, twenty times."""
    rows = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x = 2 * torch.rand(15, generator=generator, dtype=torch.float64) - 1
        dense = torch.linspace(-1, 1, 200, dtype=torch.float64)
        y = torch.sin(3 * x) + 0.2 * torch.randn(15, generator=generator, dtype=torch.float64)
        errors = []
        for strength in (1e-9, 1e-2, 1e2):
            w = ridge(powers(x, 12), y, strength)
            train = (powers(x, 12) @ w - y).square().mean()
            test = (powers(dense, 12) @ w - torch.sin(3 * dense)).square().mean()
            errors.append((train.item(), test.item()))
        rows.append(errors)
    train, test = np.median(np.array(rows), axis=0).T
    assert train[0] < train[1] < train[2]
    assert test[1] < 0.5 * min(test[0], test[2])


def test_a_strong_penalty_acts_as_a_lower_degree():
    """Degree 12 with a penalty, closer to a cubic than to itself without."""
    generator = torch.Generator().manual_seed(3)
    x = 2 * torch.rand(15, generator=generator, dtype=torch.float64) - 1
    y = torch.sin(3 * x) + 0.2 * torch.randn(15, generator=generator, dtype=torch.float64)
    dense = torch.linspace(-1, 1, 200, dtype=torch.float64)
    cubic = powers(dense, 3) @ ridge(powers(x, 3), y, 1e-9)
    free, held = (powers(dense, 12) @ ridge(powers(x, 12), y, s) for s in (1e-9, 1e-2))
    assert (held - cubic).square().mean() < 0.2 * (free - cubic).square().mean()


@pytest.mark.slow
def test_a_large_network_with_a_penalty_beats_a_small_one_without():
    """Width × λ on 120 scans: prefer the strong, tunable regulariser."""
    (inputs, targets), test = scans()
    data = inputs[:120], targets[:120]
    scores = {}
    for width in (4, 256):
        for strength in (0.0, 3e-3):
            runs = []
            for seed in range(3):
                torch.manual_seed(seed)
                model = mlp(10, input_shape=(64,), width=width, depth=1)

                def penalty(model, strength=strength):
                    return strength * l2(model)

                fit(model, data, steps=400, lr=0.1, batch=30, penalty=penalty, seed=seed)
                runs.append(accuracy(model, test))
            scores[width, strength] = np.mean(runs)
    assert scores[256, 3e-3] > scores[4, 0.0] + 0.03
    assert scores[256, 3e-3] >= max(scores.values()) - 0.01


def test_one_norm_of_the_three_takes_weights_to_nought():
    """Forty features, three of which matter; the L1 path is sparse, L2's is not."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 40, generator=generator)
    y = x[:, :3] @ torch.tensor([2.0, -1.0, 1.0]) + 0.1 * torch.randn(100, generator=generator)
    left = {}
    for name, penalty in {"l1": l1, "l2": l2}.items():
        torch.manual_seed(0)
        line = nn.Linear(40, 1, bias=False)

        def square(outputs, wanted):
            return (outputs[:, 0] - wanted).square().mean()

        def scaled(model, penalty=penalty):
            return 0.1 * penalty(model)

        fit(line, (x, y), steps=1500, lr=0.01, batch=100, loss_fn=square, penalty=scaled)
        weights = line.weight.detach().abs().flatten()
        left[name] = (weights[:3].min().item(), (weights[3:] < 0.002).double().mean().item())
    assert left["l1"][0] > 0.5
    assert left["l1"][1] > 0.9
    assert left["l2"][1] < 0.3


class TestDropout:
    """p is the share that is dropped, as in PyTorch; one note's p is what is kept (E26)."""

    def test_it_zeroes_activations_by_chance_in_training_alone(self):
        """Not weights, as one note says (E19: that is DropConnect)."""
        model = mlp(10, input_shape=(64,), width=500, depth=1, dropout=0.3)
        weights = [weight.clone() for weight in model.parameters()]
        seen = []
        model.body[-1].register_forward_hook(lambda *a: seen.append((a[1][0], a[2])))
        inputs = torch.randn(200, 64)
        model.train()(inputs), model.eval()(inputs)
        (before, after), (still, same) = seen
        alive = before > 0
        assert (after[alive] == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
        kept = alive & (after != 0)
        torch.testing.assert_close(after[kept], before[kept] / 0.7)
        assert torch.equal(still, same)
        assert all(torch.equal(w, b) for w, b in zip(model.parameters(), weights, strict=True))

    def test_both_scalings_keep_the_expectation(self):
        """Dividing by the kept share in training, or multiplying by it in the test. D5"""
        x, keep = torch.full((200_000,), 3.0), 0.6
        mask = torch.rand(len(x)) < keep
        inverted, vanilla = mask * x / keep, mask * x
        assert inverted.mean().item() == pytest.approx(3.0, rel=0.01)
        assert vanilla.mean().item() == pytest.approx(3.0 * keep, rel=0.01)
        assert F.dropout(x, 1 - keep).mean().item() == pytest.approx(3.0, rel=0.01)

    def test_a_dropped_unit_gets_no_gradient(self):
        layer, drop = nn.Linear(8, 400), nn.Dropout(0.5)
        hidden = drop(layer(torch.randn(1, 8)))
        hidden.sum().backward()
        dropped = hidden[0] == 0
        assert 120 < dropped.sum() < 280
        assert not layer.weight.grad[dropped].any()
        assert layer.weight.grad[~dropped].abs().sum(1).gt(0).all()

    def test_the_scaled_pass_is_the_average_of_the_sub_networks(self):
        """For a linear read-out exactly so; and for a trained net nearly."""
        train, test = scans()
        model = mlp(10, input_shape=(64,), width=100, depth=1, dropout=0.5)
        fit(model, train, steps=300, lr=0.1)
        inputs = test[0][:100]
        with torch.no_grad():
            scaled = model.eval()(inputs)
            average = torch.stack([model.train()(inputs) for _ in range(2000)]).mean(0)
        assert (average - scaled).norm() / scaled.norm() < 0.02
        assert (average.argmax(1) == scaled.argmax(1)).double().mean() > 0.97

    def test_it_equals_an_l2_penalty_for_linear_regression_only(self):
        """E‖y − (M∘X)w/q‖² = ‖y − Xw‖² + (p/q) Σ ‖xⱼ‖² wⱼ²: "can be proved" there alone (E1).

        Wager et al. 2013, https://arxiv.org/abs/1307.1493.
        """
        x, w = torch.randn(20, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
        y, p = torch.randn(20, dtype=torch.float64), 0.4
        closed = (y - x @ w).square().sum() + p / (1 - p) * (x.square().sum(0) * w.square()).sum()
        masks = torch.rand(40_000, 1, 6, dtype=torch.float64) >= p
        sampled = (y - (masks * x / (1 - p)) @ w).square().sum(1).mean()
        assert sampled.item() == pytest.approx(closed.item(), rel=0.01)
        # of a logistic loss, the extra term depends on the scores: no function of w and x² alone

        def extra(scale):
            s = scale * (x @ w)
            noisy = scale * ((masks * x / (1 - p)) @ w)
            return (F.softplus(noisy).mean(0) - F.softplus(s)).sum().item() / scale**2

        assert extra(0.1) > 2 * extra(3.0) > 0


def test_augmented_samples_narrow_the_gap():
    """200 scans that lie a pixel off, as the test's do: seen once, or moved anew. D10 L6 E12"""
    (inputs, targets), (test_inputs, test_targets) = scans()
    shift, generator = Augment(crop_padding=1), torch.Generator().manual_seed(0)

    def moved(vectors):
        images = vectors.reshape(-1, 8, 8, 1) - inputs.min()
        return shift(images, generator).flatten(1) + inputs.min()

    seen, labels = moved(inputs[:200]), targets[:200]
    test = moved(test_inputs), test_targets
    copies = torch.cat([moved(seen) for _ in range(20)])
    scores = {}
    for name, data in {"none": (seen, labels), "moved": (copies, labels.repeat(20))}.items():
        torch.manual_seed(0)
        model = mlp(10, input_shape=(64,), width=128, depth=1)
        losses = fit(model, data, steps=1500, lr=0.1)
        scores[name] = (np.mean(losses[-50:]), loss(model, test), accuracy(model, test))
    assert scores["moved"][0] > scores["none"][0]  # harder to learn,
    assert scores["moved"][2] > scores["none"][2] + 0.01  # better to have learnt
    assert scores["moved"][1] - scores["moved"][0] < scores["none"][1] - scores["none"][0]


def test_the_recipe_for_images_is_what_became_usual_after_resnet(tmp_path):
    """L2, batch norm and augmentation; no dropout but before a linear layer."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", images=images, labels=np.arange(60) % 3)
    recipe = plan(tmp_path / "photos.npz").recipe
    assert recipe.optimizer.weight_decay > 0
    assert recipe.augment.flip
    assert recipe.augment.crop_padding > 0
    from thalweg.models import MODELS

    model = MODELS[recipe.model.name](3, input_shape=(3, 32, 32), **recipe.model.changes)
    kinds = [type(module) for module in model.modules()]
    assert nn.BatchNorm2d in kinds
    assert not any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
