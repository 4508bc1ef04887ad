"""Activations, norms, initialisation, stochastic depth against torch and closed forms."""

from math import erf, exp, pi, sqrt
from typing import Any

import pytest
import torch
from torch import nn

from thalweg.errors import UsageError
from thalweg.models import MODELS
from thalweg.models.anatomy.signal_scale import activation_statistics, signal_trend
from thalweg.models.pieces.activation import ACTIVATIONS, widening
from thalweg.models.pieces.byte_dropout import ByteDropout
from thalweg.models.pieces.drop_path import DropPath, depth_rates
from thalweg.models.pieces.initialise import (
    INITIALISATIONS,
    initialise,
    layer_outputs,
    scale_to_unit_variance,
    weight_layers,
    zero_residual_ends,
)
from thalweg.models.pieces.norm import NORMS
from thalweg.models.pieces.residual import ResidualBlock
from thalweg.models.pieces.squared_relu import squared_relu

POINTS = [-30.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 30.0]
FORMULAE = {
    "relu": lambda x: max(0.0, x),
    "leaky_relu": lambda x: max(0.01 * x, x),
    "prelu": lambda x: max(0.25 * x, x),
    "elu": lambda x: x if x > 0 else exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (exp(x) - 1)),
    "silu": lambda x: x / (1 + exp(-x)),
    "gelu": lambda x: x * (1 + erf(x / sqrt(2))) / 2,
    "tanh": lambda x: (exp(2 * x) - 1) / (exp(2 * x) + 1),
    "sigmoid": lambda x: 1 / (1 + exp(-x)),
}


@pytest.mark.parametrize("name", FORMULAE)
def test_activations_are_their_formulae(name):
    found = ACTIVATIONS[name]().double()(torch.tensor([POINTS], dtype=torch.float64))
    expected = torch.tensor([[FORMULAE[name](x) for x in POINTS]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_every_activation_is_checked():
    assert FORMULAE.keys() | {"maxout"} == set(ACTIVATIONS)


def test_gelu_multiplies_by_the_distribution_not_the_density():
    """with the density, as a note has it, gelu(3) would be 0.013, not 3."""
    gelu = ACTIVATIONS["gelu"]()(torch.tensor([3.0])).item()
    assert gelu == pytest.approx(2.996, abs=1e-3)
    assert 3 * exp(-4.5) / sqrt(2 * pi) == pytest.approx(0.0133, abs=1e-4)


def test_maxout_takes_the_larger_of_two_lines():
    """|x| = max(x, −x) is one maxout unit."""
    unit = nn.Linear(1, 2, bias=False)
    unit.weight.data = torch.tensor([[1.0], [-1.0]])
    inputs = torch.tensor([[-2.0], [0.5]])
    assert ACTIVATIONS["maxout"]()(unit(inputs)).flatten().tolist() == [2.0, 0.5]
    assert widening("maxout") == 2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_and_convnet_take_any_activation(activation):
    for name, shape in (("mlp", (6,)), ("convnet", (3, 8, 8))):
        model = MODELS[name](3, input_shape=shape, width=8, activation=activation)
        model(torch.randn(4, *shape)).sum().backward()
        assert all(weight.grad is not None for weight in model.parameters())


def standardised(inputs, axes):
    """(x − mean) / √(variance + 1e-5) over the axes: all four norms before γ and β."""
    mean = inputs.mean(axes, keepdim=True)
    return (inputs - mean) / (inputs.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()


AXES = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}


@pytest.mark.parametrize("name", AXES)
def test_norms_differ_only_in_the_axes_they_average_over(name):
    inputs = 3 * torch.randn(4, 6, 5, 5, dtype=torch.float64) + 2
    found = NORMS[name](6).double()(inputs)
    torch.testing.assert_close(found, standardised(inputs, axes=AXES[name]))
    assert found.mean(AXES[name]).abs().max() < 1e-12


def test_group_norm_averages_over_a_group_of_channels():
    inputs = torch.randn(2, 48, 5, 5, dtype=torch.float64)  # gcd(32, 48) = 16 groups of 3
    grouped = standardised(inputs.unflatten(1, (16, 3)), axes=(2, 3, 4)).flatten(1, 2)
    torch.testing.assert_close(NORMS["group"](48).double()(inputs), grouped)


@pytest.mark.parametrize("name", ["layer", "instance", "group"])
def test_only_batch_norm_lets_samples_see_each_other(name):
    inputs = torch.randn(4, 8, 5, 5)
    changed = torch.cat((inputs[:1], torch.randn(3, 8, 5, 5)))
    norm, batch = NORMS[name](8), NORMS["batch"](8)
    torch.testing.assert_close(norm(inputs)[0], norm(changed)[0])
    assert not torch.allclose(batch(inputs)[0], batch(changed)[0])


def test_batch_norm_can_undo_itself_and_keeps_running_averages():
    """γ = σ, β = μ give the input back; evaluation uses (1 − m)·old + m·new."""
    inputs = 3 * torch.randn(64, 4, 5, 5, dtype=torch.float64) + 2
    norm: Any = NORMS["batch"](4).double()
    mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3), correction=0)
    norm.weight.data, norm.bias.data = (variance + norm.eps).sqrt(), mean
    torch.testing.assert_close(norm(inputs), inputs)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * inputs.var((0, 2, 3)))


@pytest.mark.parametrize("norm", NORMS)
def test_convnet_takes_any_norm(norm):
    model = MODELS["convnet"](3, input_shape=(3, 8, 8), width=8, norm=norm)
    assert model(torch.randn(4, 3, 8, 8)).isfinite().all()


def test_instance_norm_of_vectors_is_refused():
    with pytest.raises(UsageError, match="positions to average over"):
        NORMS["instance"](4, dims=0)


STD = {"he": sqrt(2 / 400), "lecun": sqrt(1 / 400), "xavier": sqrt(2 / 700)}


@pytest.mark.parametrize("name", STD)
@pytest.mark.parametrize("shape", [(300, 400), (300, 25, 4, 4)], ids=["linear", "convolution"])
def test_initial_weights_have_the_std_of_their_paper(name, shape):
    weight = torch.empty(shape)
    INITIALISATIONS[name](weight, generator=torch.Generator().manual_seed(0))
    expected = STD[name] if len(shape) == 2 or name != "xavier" else sqrt(2 / (400 + 300 * 16))
    assert weight.std().item() == pytest.approx(expected, rel=0.02)


def test_orthogonal_weights_keep_lengths_and_dirac_weights_keep_inputs():
    weight = torch.empty(64, 64)
    INITIALISATIONS["orthogonal"](weight)
    torch.testing.assert_close(weight @ weight.T, torch.eye(64), atol=1e-5, rtol=0)
    convolution = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    INITIALISATIONS["dirac"](convolution.weight)
    inputs = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(convolution(inputs), inputs)


def deep(gain, depth=20, width=512):
    """A rectified net with weights of std gain / √width."""
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    for layer in weight_layers(model).values():
        nn.init.normal_(layer.weight, std=gain / sqrt(width))
        nn.init.zeros_(layer.bias)
    return model


@pytest.mark.parametrize(
    ("gain", "said"),
    [(sqrt(2), "steady"), (2.0, "exploding"), (1.0, "vanishing"), (0.01 * sqrt(512), "vanishing")],
    ids=["he", "a note's 2/√n", "lecun", "0.01"],
)
def test_the_checker_tells_a_good_initialisation_from_bad_ones(gain, said):
    """20 rectified layers of 512; 2/√n grows by √2 a layer."""
    torch.manual_seed(0)
    statistics = activation_statistics(deep(gain), torch.randn(64, 512))
    assert len(statistics) == 21
    assert signal_trend(statistics) == said
    growth = (statistics[19].std / statistics[0].std) ** (1 / 19)
    assert growth == pytest.approx(gain / sqrt(2), rel=0.05)


def test_equal_weights_stay_equal():
    """Constant weights make every unit of a layer the same one."""
    model: Any = MODELS["mlp"](3, input_shape=(4,), width=8)
    for weight in model.parameters():  # whole numbers: no order of the sums can round them apart
        nn.init.constant_(weight, 1.0)
    model(torch.randint(2, (16, 4)).float()).square().sum().backward()
    gradient = model.body[2].weight.grad
    assert (gradient == gradient[:1]).all()


def test_lsuv_gives_every_layer_unit_variance():
    torch.manual_seed(0)
    model = MODELS["convnet"](5, input_shape=(3, 16, 16), width=8, norm="none", activation="tanh")
    inputs = torch.randn(32, 3, 16, 16)
    initialise(model, "lsuv")
    scale_to_unit_variance(model, inputs)
    for layer in activation_statistics(model, inputs):
        assert layer.std == pytest.approx(1, abs=0.06)
    with pytest.raises(UsageError, match="same number everywhere"):
        scale_to_unit_variance(model, torch.zeros(32, 3, 16, 16))


def test_a_residual_net_with_zero_ends_passes_its_input_through():
    """Variance does not grow with depth then."""
    torch.manual_seed(0)
    model = MODELS["resnet56"](10, input_shape=(3, 32, 32))
    inputs = torch.randn(8, 3, 32, 32)

    def growth():
        names = ("layer1.0", "layer1.8")
        outputs = layer_outputs(model, inputs, names=names)
        return (outputs[names[1]].var() / outputs[names[0]].var()).item()

    assert growth() > 2
    assert zero_residual_ends(model) == 27
    assert growth() == pytest.approx(1)


def test_looking_at_activations_leaves_no_trace():
    model = MODELS["convnet"](3, input_shape=(3, 8, 8), width=8)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    activation_statistics(model, torch.randn(4, 3, 8, 8))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_initialisation_is_a_function_of_the_seed(name):
    models = [MODELS["convnet"](3, input_shape=(3, 8, 8), width=8) for _ in range(2)]
    for model in models:
        initialise(model, name, generator=torch.Generator().manual_seed(7))
    pairs = zip(*(model.parameters() for model in models), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs if a.ndim >= 2)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    branch, drop = torch.ones(20_000, 2, 1), DropPath(0.3)
    dropped = drop(branch)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert drop.eval()(branch) is branch
    assert depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("count", [100, 800], ids=["torch's numbers", "bytes"])
def test_dropout_drops_its_share_and_keeps_the_mean(rate, count):
    torch.manual_seed(0)
    inputs = torch.ones(count, 21, requires_grad=True)
    dropout = ByteDropout(rate)
    outputs = torch.stack([dropout(inputs) for _ in range(2_000_000 // inputs.numel())])
    dropped = (outputs == 0).float()
    assert dropped.mean().item() == pytest.approx(rate, abs=0.004)
    assert outputs.mean().item() == pytest.approx(1.0, abs=0.004)
    flat = dropped.flatten()[: dropped.numel() // 8 * 8].view(-1, 8)  # the bytes of a number
    torch.testing.assert_close(flat.mean(0), torch.full((8,), rate), atol=0.006, rtol=0)
    pairs = torch.corrcoef(flat.T) - torch.eye(8)
    assert pairs.abs().max() < 0.01  # four standard deviations of independent entries are 0.008
    outputs[0].sum().backward()
    torch.testing.assert_close(inputs.grad, outputs[0].detach())
    assert dropout.eval()(inputs) is inputs


def test_dropout_follows_from_the_seed():
    inputs = torch.ones(80, 100)
    torch.manual_seed(1)
    first = ByteDropout(0.3)(inputs)
    torch.manual_seed(1)
    assert torch.equal(first, ByteDropout(0.3)(inputs))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "resnext29_8x64d"])
def test_residual_blocks_tell_where_their_branch_ends(name):
    with torch.device("meta"):
        model = MODELS[name](10, input_shape=(3, 32, 32))
    blocks = [module for module in model.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == {"resnet18": 8, "resnet50": 16, "resnet20": 9, "resnext29_8x64d": 9}[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "resnext29_8x64d", "cifar_vgg11_bn"])
@pytest.mark.parametrize("activation", ["gelu", "prelu", "tanh"])
def test_image_networks_take_other_activations(name, activation):
    """Not a rectifier is left; weights are as many, but for PReLU's own."""
    shape = (3, 32, 32)
    build = MODELS[name]
    with torch.device("meta"):
        model, usual = (
            build(5, input_shape=shape, activation=activation),
            build(5, input_shape=shape),
        )
    wanted = type(ACTIVATIONS[activation]())
    kinds = [type(module) for module in model.modules()]
    assert nn.ReLU not in kinds
    assert kinds.count(wanted) == sum(isinstance(m, nn.ReLU) for m in usual.modules())
    extra = kinds.count(wanted) if activation == "prelu" else 0
    count = lambda m: sum(weight.numel() for weight in m.parameters())  # noqa: E731
    assert count(model) == count(usual) + extra


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
@pytest.mark.parametrize("norm", ["group", "layer", "instance"])
def test_residual_networks_take_other_norms_and_still_start_as_the_identity(name, norm):
    model = MODELS[name](5, input_shape=(3, 32, 32), norm=norm, width=8)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    usual: Any = MODELS[name](5, input_shape=(3, 32, 32), width=8)
    for ours, theirs in zip(model.modules(), usual.modules(), strict=False):
        if isinstance(ours, ResidualBlock):
            end: Any = ours.branch_end()
            assert torch.equal(end.weight, theirs.branch_end().weight)
    alone, together = (model(torch.ones(n, 3, 32, 32))[0] for n in (1, 4))
    torch.testing.assert_close(alone, together)  # samples do not see each other


def test_orthogonal_filters_by_name():
    model: Any = MODELS["resnet20"](5, input_shape=(3, 32, 32), init="orthogonal")
    weight = model.layer3[1].conv2.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("changes", [{"activation": "maxout"}, {"norm": "none"}])
def test_what_a_residual_network_cannot_take_is_refused(changes):
    with pytest.raises(UsageError, match="needs a norm"):
        MODELS["resnet20"](5, input_shape=(3, 32, 32), **changes)


def test_the_gradient_of_the_squared_relu_is_autograds_of_every_order():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(squared_relu, x)
    assert torch.autograd.gradgradcheck(squared_relu, x)
    own, expected = (torch.autograd.grad(f(x).sum(), x)[0] for f in (squared_relu, plain_square))
    assert torch.equal(own, expected)


def plain_square(x):
    rectified = torch.relu(x)
    assert torch.equal(squared_relu(x.detach()), (rectified * rectified).detach())
    return rectified * rectified
