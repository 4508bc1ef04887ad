import pytest
import torch
from torch import nn

from thalweg.models import MODELS
from thalweg.optim import OPTIMIZERS


def network():
    torch.manual_seed(0)
    return MODELS["convnet"](4, input_shape=(1, 8, 8), width=4)


def built(name, model, **changes):
    settings = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.8} | changes
    return OPTIMIZERS[name](model.named_parameters(), **settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_matrices_and_filters_decay(name):
    model = network()
    groups = {group["name"]: group for group in built(name, model).param_groups}
    decays = {name: group["weight_decay"] for name, group in groups.items()}
    assert decays.pop("biases and norms") == 0.0
    assert set(decays.values()) == {0.3}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    vectors = {id(w) for norm in norms for w in norm.parameters()} | {id(model.head.bias)}
    assert {id(weight) for weight in groups["biases and norms"]["params"]} == vectors
    both = [weight for group in groups.values() for weight in group["params"]]
    assert {id(weight) for weight in both} == {id(weight) for weight in model.parameters()}
    assert len(both) == len(list(model.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_weights_are_left_alone(name):
    model = network()
    model.stem.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    optimizer = built(name, model)
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert held == {id(weight) for weight in model.parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_without_biases_has_one_group(name):
    assert len(built(name, nn.Linear(3, 2, bias=False)).param_groups) == 1


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam", "momentum", "nesterov", "adagrad"])
def test_the_fused_kernel_is_used(name):
    assert all(group["fused"] for group in built(name, network()).param_groups)


def test_sgd_is_nesterov_momentum_as_written_in_the_paper():
    weight = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    expected, velocity = weight.detach().clone(), torch.zeros(3, 2, dtype=torch.float64)
    optimizer = OPTIMIZERS["sgd"]([("w", weight)], lr=0.1, weight_decay=0.2, momentum=0.9)
    for _ in range(5):
        weight.grad = weight.detach() ** 3  # the gradient of Σ w⁴ / 4
        optimizer.step()
        gradient = expected**3 + 0.2 * expected
        velocity = 0.9 * velocity + gradient
        expected = expected - 0.1 * (gradient + 0.9 * velocity)
    torch.testing.assert_close(weight.detach(), expected)


def test_adamw_is_the_papers():
    weight = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    expected = weight.detach().clone()
    first = second = torch.zeros(3, 2, dtype=torch.float64)
    optimizer = OPTIMIZERS["adamw"]([("w", weight)], lr=0.1, weight_decay=0.2, momentum=0.8)
    for step in range(1, 6):
        weight.grad = weight.detach() ** 3
        optimizer.step()
        gradient = expected**3
        first = 0.8 * first + 0.2 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        update = (first / (1 - 0.8**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * update
    torch.testing.assert_close(weight.detach(), expected)


def test_sgd_without_momentum_needs_no_nesterov():
    assert not built("sgd", network(), momentum=0.0).param_groups[0]["nesterov"]
