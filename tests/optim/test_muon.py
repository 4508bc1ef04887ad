"""Muon and sign descent against matrix decompositions and torch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.errors import UsageError
from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS
from thalweg.optim.batch_scaling import scaled_lr
from thalweg.optim.ema import WeightAverage
from thalweg.optim.muon import orthogonal_factor
from thalweg.optim.state_bytes import state_bytes


@pytest.mark.parametrize("shape", [(3, 40, 24), (3, 24, 40), (1, 16, 16)], ids=str)
def test_the_update_has_the_directions_of_the_matrix_and_nearly_equal_sizes(shape):
    """One note calls Muon a low-rank approximation: it is the opposite."""
    torch.manual_seed(0)
    left, sizes, right = torch.linalg.svd(
        torch.randn(shape, dtype=torch.float64), full_matrices=False
    )
    matrices = left @ torch.diag_embed(torch.logspace(0, -1.5, sizes.shape[1]).double()) @ right
    found = orthogonal_factor(matrices)
    rotated = left.mT @ found @ right.mT  # diagonal, if the singular directions were kept
    diagonal = rotated.diagonal(dim1=1, dim2=2)
    assert (rotated - torch.diag_embed(diagonal)).abs().max() < 1e-10
    assert 0.6 < diagonal.min() < diagonal.max() < 1.3


def test_a_batch_of_matrices_is_each_on_its_own_and_zero_stays_zero():
    matrices = torch.randn(4, 6, 9, dtype=torch.float64)
    matrices[2] = 0
    alone = torch.cat([orthogonal_factor(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(orthogonal_factor(matrices), alone)
    assert not alone[2].any()


def stepped(optimizer_of, steps=4):
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(12, 20)), nn.Parameter(torch.randn(5, 12))]
    optimizer = optimizer_of(weights)
    for _ in range(steps):
        for weight in weights:
            weight.grad = weight.detach() ** 3 - weight.detach().roll(1)
        optimizer.step()
    return weights


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
def test_hidden_matrices_go_where_pytorchs_muon_takes_them():
    """PyTorch multiplies in bfloat16, hence the tolerance; the head is AdamW's with us."""
    ours = stepped(
        lambda ws: OPTIMIZERS["muon"](
            [("a", ws[0]), ("head", ws[1])], lr=0.02, weight_decay=0.1, momentum=0.9
        )
    )
    torchs = stepped(
        lambda ws: torch.optim.Muon(
            ws, lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
        )
    )
    torch.testing.assert_close(ours[0], torchs[0], atol=2e-3, rtol=0)
    adamw = stepped(lambda ws: torch.optim.AdamW(ws, lr=0.02, weight_decay=0.1, betas=(0.9, 0.95)))
    torch.testing.assert_close(ours[1], adamw[1])


def test_filters_move_as_the_matrices_they_are():
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(8, 3, 3, 3))
    matrix, head = nn.Parameter(filters.detach().flatten(1)), nn.Parameter(torch.zeros(2, 2))
    for weight in (filters, matrix):
        named = [("w", weight), ("head", head)]
        optimizer = OPTIMIZERS["muon"](named, lr=0.1, weight_decay=0.0, momentum=0.9)
        for _ in range(3):
            weight.grad = weight.detach().sin()
            optimizer.step()
    torch.testing.assert_close(filters.flatten(1), matrix)


SPEED_RUN = {"unit_norm": True, "head_rate": 0.5, "bias_rate": 3.0, "newton_schulz_steps": 3}


def named_net():
    """A layer whose filters are frozen, hidden filters, a head."""
    torch.manual_seed(0)
    first, hidden, head = nn.Conv2d(2, 4, 2), nn.Conv2d(4, 8, 3), nn.Linear(8, 3, bias=False)
    first.weight.requires_grad_(False)
    return nn.Sequential(first, hidden, nn.Flatten(), head)


def test_matrices_of_unit_norm_change_by_the_share_that_the_rate_says():
    """‖w‖ = √rows before each step, which moves it by lr · U Vᵀ: airbench94_muon's, written out."""
    hidden, head = nn.Parameter(torch.randn(8, 4, 3, 3) * 5), nn.Parameter(torch.zeros(2, 2))
    named = [("hidden", hidden), ("head", head)]
    rates = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.6}
    optimizer = OPTIMIZERS["muon"](named, **rates, **SPEED_RUN)
    expected, buffer = hidden.detach().clone(), torch.zeros(8, 4, 3, 3)
    for _ in range(3):
        hidden.grad = hidden.detach().sin()
        gradient = expected.sin()
        optimizer.step()
        buffer = 0.6 * buffer + gradient
        direction = (gradient + 0.6 * buffer).flatten(1)
        expected = expected * 8**0.5 / expected.norm()
        expected = expected - 0.1 * orthogonal_factor(direction[None], steps=3).view_as(expected)
    torch.testing.assert_close(hidden.detach(), expected)


def test_the_rest_is_pytorchs_sgd_at_rates_of_its_own():
    """The same shrinkage a step, lr · weight decay, in every group."""
    ours, theirs = named_net(), named_net()
    optimizer = OPTIMIZERS["muon"](
        ours.named_parameters(), lr=0.1, weight_decay=0.06, momentum=0.6, **SPEED_RUN
    )
    groups = [
        {"params": [theirs[3].weight], "lr": 0.05, "weight_decay": 0.12},
        {"params": [theirs[0].bias, theirs[1].bias], "lr": 0.3, "weight_decay": 0.02},
    ]
    sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
    for _ in range(4):
        for net in (ours, theirs):
            for weight in net.parameters():
                weight.grad = weight.detach().cos() if weight.requires_grad else None
        optimizer.step()
        sgd.step()
    for layer, name in ((0, "bias"), (1, "bias"), (3, "weight")):
        torch.testing.assert_close(getattr(ours[layer], name), getattr(theirs[layer], name))


def test_products_in_bfloat16_are_near_those_in_float32():
    torch.manual_seed(0)
    matrices = torch.randn(3, 24, 40)
    found = orthogonal_factor(matrices, dtype=torch.bfloat16)
    assert found.dtype == torch.float32
    cosine = F.cosine_similarity(found.flatten(), orthogonal_factor(matrices).flatten(), dim=0)
    assert cosine > 0.99


def test_sign_descent_is_lions_formula():
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    expected, memory = weight.detach().clone(), torch.zeros(3, 4, dtype=torch.float64)
    optimizer = OPTIMIZERS["sign_descent"]([("w", weight)], lr=0.1, weight_decay=0.2, momentum=0.9)
    for _ in range(6):
        weight.grad = weight.detach() ** 3
        optimizer.step()
        gradient = expected**3
        direction = (0.9 * memory + 0.1 * gradient).sign()
        expected = expected - 0.1 * (direction + 0.2 * expected)
        memory = 0.99 * memory + 0.01 * gradient
    torch.testing.assert_close(weight.detach(), expected)


def test_a_table_of_tokens_is_adamws_and_does_not_decay():
    """A token that does not occur keeps its row; an orthogonal update would move all rows."""
    model: Any = MODELS["transformer_lm"](7, input_shape=(8,), width=16, depth=1, heads=2)
    before = model.embedding.weight.detach().clone()
    optimizer = OPTIMIZERS["muon"](
        model.named_parameters(), lr=0.01, weight_decay=0.5, momentum=0.9
    )
    names = {group["name"]: len(group["params"]) for group in optimizer.param_groups}
    assert names == {"weights": 4, "head": 1, "embeddings": 1}
    nn.init.normal_(model.head.weight)
    model(torch.tensor([[0, 1, 2]])).square().mean().backward()
    optimizer.step()
    change = (model.embedding.weight - before).abs()
    assert not change[3:].any()
    assert change[:3].max().item() == pytest.approx(0.01, rel=0.01)  # Adam's first step is ± lr


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_brings_a_small_net_down(name):
    torch.manual_seed(0)
    model = MODELS["convnet"](4, input_shape=(1, 8, 8), width=4)
    inputs, targets = torch.randn(32, 1, 8, 8), torch.arange(32) % 4
    lr = {"momentum_velocity": 0.05, "sgd": 0.05, "momentum": 0.05, "nesterov": 0.05}.get(
        name, 0.01
    )
    optimizer = OPTIMIZERS[name](model.named_parameters(), lr=lr, weight_decay=0.0, momentum=0.9)
    for _ in range(40):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.0  # from ln 4 = 1.39


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_from_its_saved_state(name):
    def built():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
        settings = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}
        return model, OPTIMIZERS[name](model.named_parameters(), **settings)

    def advance(pair, steps):
        model, optimizer = pair
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()

    whole, first, second = built(), built(), built()
    advance(whole, 5)
    advance(first, 2)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    advance(second, 3)
    pairs = zip(whole[0].parameters(), second[0].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


BUFFERS = {"sgd": 1, "momentum": 1, "nesterov": 1, "momentum_velocity": 1, "rmsprop": 2} | {
    "adagrad": 1,
    "adam": 2,
    "adamw": 2,
    "sign_descent": 1,
    "muon": 1,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_counted_in_bytes(name):
    """As much again as the weights for one buffer, twice for two."""
    torch.manual_seed(0)
    hidden, head = nn.Parameter(torch.randn(64, 64)), nn.Parameter(torch.randn(1, 2))
    named = [("hidden", hidden), ("head", head)]
    optimizer = OPTIMIZERS[name](named, lr=0.01, weight_decay=0.0, momentum=0.9)
    assert state_bytes(optimizer) <= 4 * 64 * 64 + 100  # adagrad starts with its sum
    for weight in (hidden, head):
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert state_bytes(optimizer) == pytest.approx(BUFFERS[name] * 4 * 64 * 64, rel=0.01)


def test_learning_rates_scale_with_the_batch():
    assert scaled_lr(0.1, batch_size=1024, reference=256) == pytest.approx(0.4)
    assert scaled_lr(0.1, batch_size=1024, reference=256, rule="sqrt") == pytest.approx(0.2)
    with pytest.raises(UsageError, match="at least 1"):
        scaled_lr(0.1, batch_size=0, reference=256)
    with pytest.raises(UsageError, match="scaling rule"):
        scaled_lr(0.1, batch_size=1, reference=256, rule="cubic")


def test_averaged_weights_are_pytorchs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(model, decay=0.9)
    torchs = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    torchs.update_parameters(model)  # its first call copies
    for _ in range(5):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight))
        model(torch.randn(8, 3))
        average.update()
        torchs.update_parameters(model)
    own = [weight.clone() for weight in model.parameters()]
    with average.averaged_model() as averaged:
        for ours, theirs in zip(averaged.parameters(), torchs.module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
        norm: Any = averaged.get_submodule("1")
        assert torch.equal(norm.running_mean, average.average["1.running_mean"])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), own, strict=True))
