"""What activations, depth and norms do to the signals inside a network."""

from math import isfinite
from typing import Any

import numpy as np
import pytest
import torch
from notes.fitting import accuracy, fit, scans
from torch import nn

import thalweg
from thalweg.models import MODELS
from thalweg.models.mlp import mlp
from thalweg.models.pieces.activation import ACTIVATIONS
from thalweg.observe.operation_recorder import record_forward
from thalweg.record.quantities import GRADIENT_NORM

MODERN = ("relu", "leaky_relu", "prelu", "elu", "selu", "silu", "gelu", "maxout")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def local_gradient(name, at):
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    layer = ACTIVATIONS[name]()
    layer.double()
    y = layer(x.clone().reshape(-1, 1))
    return torch.autograd.grad(y.sum(), x)[0]


def test_sigmoid_and_tanh_saturate_on_both_sides_relu_on_one():
    far = [-20.0, 20.0]
    for name in ("sigmoid", "tanh"):
        assert (local_gradient(name, far) < 1e-8).all()
    assert local_gradient("relu", far).tolist() == [0.0, 1.0]
    assert local_gradient("leaky_relu", far).tolist() == [pytest.approx(0.01), 1.0]
    assert local_gradient("sigmoid", [0.0]).item() == pytest.approx(0.25)  # at best a quarter


def test_inputs_of_one_sign_give_a_units_weights_gradients_of_one_sign():
    """Hence the zig-zag; sigmoid's outputs are such inputs. A batch helps."""
    unit = nn.Linear(30, 1)

    def signs(inputs):
        (gradient,) = torch.autograd.grad(unit(inputs).square().sum(), unit.weight)
        return abs(gradient.sign().sum().item()) / 30  # 1: all alike

    raw = torch.randn(200, 30)
    positive = ACTIVATIONS["sigmoid"]()(raw)
    alone = [signs(row[None]) for row in positive]
    assert alone == [1.0] * 200
    assert np.mean([signs(row[None]) for row in raw]) < 0.3
    targets = torch.randn(200, 1)

    def batch_signs(inputs):
        loss = (unit(inputs) - targets).square().mean()
        return abs(torch.autograd.grad(loss, unit.weight)[0].sign().sum().item()) / 30

    centred = positive - positive.mean(0)
    assert batch_signs(centred) < batch_signs(positive)


def test_the_saturation_meter_counts_units_that_pass_no_gradient():
    """Weights ten times too large saturate a tanh net; the probe says where."""
    (inputs, _), _ = scans()
    plain = mlp(10, input_shape=(64,), width=100, depth=4, activation="tanh", init="xavier")
    large = mlp(10, input_shape=(64,), width=100, depth=4, activation="tanh", init="xavier")
    normed = mlp(10, input_shape=(64,), width=100, depth=4, activation="tanh", norm="batch")
    with torch.no_grad():
        for model in (large, normed):
            for layer in model.body:
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(10)
        for _ in range(100):  # the running statistics come to match
            normed.train()(inputs)
    found = {}
    for name, model in {"plain": plain, "large": large, "normed": normed}.items():
        shares = record_forward(model, (inputs,), {}).saturated
        assert len(shares) == 4
        found[name] = np.mean([float(share) for share in shares.values()])
    assert found["plain"] < 0.01
    assert found["large"] > 0.5
    assert found["normed"] < 0.1  # norms before activations keep them off the flat parts


def test_a_large_step_kills_rectifiers_and_a_leak_revives_them():
    """Dead: 0 for every sample of the data set, so no gradient ever comes back."""
    (inputs, targets), _ = scans()
    dead, still = {}, {}
    for name in ("relu", "leaky_relu"):
        torch.manual_seed(0)
        model: Any = mlp(10, input_shape=(64,), width=100, depth=2, activation=name)
        fit(model, (inputs, targets), steps=30, lr=3.0)
        first = model.body[:2](inputs).detach()
        dead[name] = (first <= 0).all(0).double().mean().item()
        before = model.body[0].weight.clone()
        fit(model, (inputs, targets), steps=20, lr=0.05)
        unmoved = (model.body[0].weight == before).all(1)
        still[name] = unmoved.double().mean().item()
        if name == "relu":
            shares = record_forward(model, (inputs,), {}).dead
            assert max(float(share) for share in shares.values()) > 0.1
    assert dead["relu"] > 0.1
    assert still["relu"] > 0.1
    assert still["leaky_relu"] == 0.0


@pytest.mark.slow
def test_modern_activations_are_close_and_deep_sigmoids_stay_at_chance():
    """Two layers: all alike. Eight layers: sigmoid does not leave chance."""
    train, test = scans()

    def score(name, depth):
        torch.manual_seed(0)
        model = mlp(10, input_shape=(64,), width=50, depth=depth, activation=name)
        fit(model, train, steps=400, lr=0.05, momentum=0.9)
        return accuracy(model, test)

    shallow = {name: score(name, 2) for name in (*MODERN, "tanh")}
    assert min(shallow.values()) > 0.93
    assert max(shallow.values()) - min(shallow.values()) < 0.03
    assert score("sigmoid", 8) < 0.2 < 0.8 < score("relu", 8)


def layer_gradients(model, data):
    """Gradient norms of the matrices, from the input to the head, by the two lines of watch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with thalweg.watch(model, optimizer) as watcher:
        loss = nn.functional.cross_entropy(model(data[0][:100]), data[1][:100])
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    places = watcher.history.by_place(GRADIENT_NORM)
    names = [name for name, weight in model.named_parameters() if weight.ndim > 1]
    return [next(iter(places[name].values())) for name in names]


def test_gradients_vanish_or_explode_with_depth_unless_the_scale_is_right():
    """Fifteen layers; the ratio of the first layer's norm to the last hidden one's. H23"""
    train, _ = scans()
    ratios = {}
    sigmoid: dict[str, Any] = {"activation": "sigmoid", "init": "xavier"}
    for name, options, gain in (
        ("sigmoid", sigmoid, 1.0),
        ("right", {}, 1.0),
        ("too large", {}, 2.0),
    ):
        torch.manual_seed(0)
        model = mlp(10, input_shape=(64,), width=64, depth=15, **options)
        with torch.no_grad():
            for layer in model.body:
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(gain)
        norms = layer_gradients(model, train)
        ratios[name] = norms[0] / norms[-2]
    assert ratios["sigmoid"] < 1e-5
    assert 0.05 < ratios["right"] < 20
    # doubling every weight doubles signal and gradient a layer: the signals explode
    found = record_forward(model, (train[0],), {}).stds
    stds = [float(std) for std in found.values()]
    assert stds[-2] > 1e3 * stds[0]


def test_standardising_turns_a_ravine_into_a_bowl():
    """Condition number of XᵀX, and steps of descent to the same loss. It makes nothing Gaussian
    (E36): shapes stay as they were."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.rand(300, 2, generator=generator, dtype=torch.float64) ** 3
    raw = raw * torch.tensor([1.0, 100.0]) + torch.tensor([5.0, 0.0])
    scaled = (raw - raw.mean(0)) / raw.std(0, correction=0)
    conditions, steps = [], []
    for x in (raw, scaled):
        one = torch.cat([x, torch.ones(300, 1, dtype=torch.float64)], dim=1)
        hessian = one.T @ one / 300
        values = torch.linalg.eigvalsh(hessian)
        conditions.append((values[-1] / values[0]).item())
        w, goal = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        start = (one @ (w - goal)).square().mean()
        count = 0
        while (one @ (w - goal)).square().mean() > 1e-6 * start and count < 20_000:
            w = w - (1 / values[-1]) * hessian @ (w - goal)
            count += 1
        steps.append(count)
    assert conditions[1] < 2 < 1e4 < conditions[0]
    assert steps[0] > 20 * steps[1]

    def skew(x):
        return ((x - x.mean(0)) / x.std(0)).pow(3).mean(0)

    torch.testing.assert_close(skew(raw), skew(scaled))
    assert (skew(scaled) > 0.8).all()


@pytest.mark.slow
def test_batch_norm_widens_the_range_of_rates_and_lets_sigmoids_learn():
    """Six layers on scans, the shape of Ioffe & Szegedy's table, three seeds. Their numbers: 31.0
    million steps against 13.3 with batch norm (E37); with sigmoid 69.8 %, below the 72.2 % of the
    baseline, not "much better" (E38)."""
    train, test = scans()

    def score(lr, **options):
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            model = mlp(10, input_shape=(64,), width=60, depth=6, **options)
            losses = fit(model, train, steps=240, lr=lr, seed=seed)
            found.append(accuracy(model, test) if isfinite(losses[-1]) else 0.0)
        return np.mean(found)

    plain = {lr: score(lr) for lr in (0.05, 1.5)}
    normed = {lr: score(lr, norm="batch") for lr in (0.05, 1.5)}
    assert plain[0.05] > 0.9
    assert plain[1.5] < 0.3
    assert min(normed.values()) > 0.9
    bent = {"activation": "sigmoid", "init": "xavier"}
    assert max(score(lr, **bent) for lr in (0.05, 1.5)) < 0.2
    assert score(1.5, **bent, norm="batch") > 0.8


def test_plain_deep_nets_with_batch_norm_have_healthy_gradients():
    """A note blames vanishing gradients for the degradation (E39); He et al. found them healthy
    in nets with batch norm, and so they are here. Without it they do vanish."""
    images, targets = torch.randn(32, 3, 16, 16), torch.randint(10, (32,))

    def sizes(name, *, norm):
        torch.manual_seed(0)
        model = MODELS[name](10, input_shape=(3, 16, 16))
        if not norm:
            for block in model.modules():
                for part, child in block.named_children():
                    if isinstance(child, nn.BatchNorm2d):
                        setattr(block, part, nn.Identity())
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.xavier_normal_(layer.weight)
        loss = nn.functional.cross_entropy(model(images), targets)
        loss.backward()
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        return [layer.weight.grad.norm().item() for layer in convolutions]

    with_norm, without = sizes("plain56", norm=True), sizes("plain56", norm=False)
    assert min(with_norm[:5]) > 0.1 * max(with_norm[-5:])
    assert min(with_norm) > 1e-3
    assert max(without) < 1e-6  # signals halve on the way up, and their gradients on the way down


def test_a_transformer_block_without_attention_is_an_mlp_for_each_patch():
    """ "An efficient MLP" is loose: patches meet only in the attention."""
    model: Any = MODELS["vit_tiny"](
        10, input_shape=(3, 32, 32), patch_size=8, depth=1, dim=24
    ).eval()
    block = model.blocks[0]
    tokens = torch.randn(2, 5, 24)
    other = tokens.clone()
    other[:, 0] += torch.randn(24)

    def reached():
        with torch.no_grad():
            return (block(tokens) - block(other)).abs().amax(dim=(0, 2)) > 0

    assert reached().tolist() == [True] * 5
    nn.init.zeros_(block.attn.proj.weight)
    assert reached().tolist() == [True, False, False, False, False]
    with torch.no_grad():
        each = torch.stack([block(tokens[:, i : i + 1])[:, 0] for i in range(5)], dim=1)
    torch.testing.assert_close(block(tokens), each)
