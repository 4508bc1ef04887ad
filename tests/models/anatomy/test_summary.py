"""Shapes, weights, FLOPs and receptive fields against torch and closed forms."""

from itertools import product
from math import floor, prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from thalweg.models import MODELS
from thalweg.models.anatomy.receptive_field import effective_field, effective_size
from thalweg.models.anatomy.summary import summary

CASES = {
    "mlp": (3, 8, 8),
    "convnet": (3, 32, 32),
    "resnet18": (3, 224, 224),
    "resnet50": (3, 224, 224),
    "resnext50_32x4d": (3, 224, 224),
    "resnet20": (3, 32, 32),
    "vgg16": (3, 224, 224),
    "efficientnet_lite0": (3, 224, 224),
    "vit_tiny": (3, 224, 224),
}


def on_paper(name, shape):
    with torch.device("meta"):
        return MODELS[name](10, input_shape=shape).eval()


@pytest.mark.parametrize(("name", "shape"), CASES.items(), ids=CASES)
def test_totals_are_pytorchs(name, shape):
    model = on_paper(name, shape)
    found = summary(model, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, *shape, device="meta"))
    assert found.flops == counter.get_total_flops()
    assert found.weights == sum(weight.numel() for weight in model.parameters())
    assert found.layers[-1].output_shape == (10,)


@pytest.mark.parametrize(
    ("name", "device"), [("rnn_lm", "cpu"), ("gru_lm", "cpu"), ("transformer_lm", "meta")]
)
def test_totals_of_a_language_model_are_pytorchs(name, device):
    """PyTorch counts recurrent layers on the CPU alone, and attention on the meta device."""
    with torch.device(device):
        model = MODELS[name](10, input_shape=(24,), width=32, depth=2).eval()
        tokens = torch.zeros(1, 24, dtype=torch.int64)
    anatomy = summary(model, {"tokens": tokens})
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens)
    assert anatomy.flops == counter.get_total_flops()
    assert anatomy.weights == sum(weight.numel() for weight in model.parameters())
    assert anatomy.layers[-1].output_shape == (24, 10)


def test_an_lstm_costs_four_vanilla_layers():
    costs = {}
    for name in ("rnn_lm", "lstm_lm"):
        model = MODELS[name](10, input_shape=(24,), width=32)
        anatomy = summary(model, {"tokens": torch.zeros(1, 24, dtype=torch.int64)})
        [costs[name]] = [row.flops for row in anatomy.layers if row.name == "layers"]
    assert costs["rnn_lm"] == 24 * 2 * (2 * 32 * 32)
    assert costs["lstm_lm"] == 4 * costs["rnn_lm"]


# published: 483 at ResNet-50's last map, 427 with the stride on its 3×3, 435 and 212
FIELDS = {"resnet18": ("layer4.1.conv2", 435), "vgg16": ("features.30", 212)}


@pytest.mark.parametrize(("name", "expected"), FIELDS.items(), ids=FIELDS)
def test_receptive_fields_are_the_published_ones(name, expected):
    """Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields."""
    layer, size = expected
    shape = (3, 224, 224)
    rows = {row.name: row for row in summary(on_paper(name, shape), shape).layers}
    assert rows[layer].receptive_field == size


def test_a_stack_of_small_kernels_sees_one_plus_depth_times_two():
    """1 + L (K − 1); the gradient reaches exactly those pixels."""
    depth = 4
    model = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(depth)))
    for weight in model.parameters():
        nn.init.ones_(weight)
    rows = summary(model, (1, 21, 21)).layers
    assert [row.receptive_field for row in rows] == [3, 5, 7, 9]
    field = effective_field(model, "3", torch.randn(2, 1, 21, 21))
    assert (field.sum(0) > 0).sum() == (field.sum(1) > 0).sum() == 1 + depth * 2
    assert 3 < effective_size(field) < 9  # the middle counts more than the rim
    assert effective_size(torch.eye(21)[10:11].expand(1, 21)) == pytest.approx(1)


def test_summary_leaves_the_model_as_it_was():
    model = MODELS["convnet"](3, input_shape=(3, 8, 8), width=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summary(model, (3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_output_sizes_have_a_floor_and_a_dilation():
    """⌊(I + 2P − D(K − 1) − 1) / S⌋ + 1. A note leaves both out."""
    for size, kernel, padding, stride, dilation in product(
        (9, 12), (1, 3, 5), (0, 2), (1, 2, 3), (1, 2)
    ):
        layer = nn.Conv2d(1, 2, kernel, stride, padding, dilation)
        expected = floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1
        (row,) = summary(nn.Sequential(layer), (1, size, size)).layers
        assert row.output_shape == (2, expected, expected)


def test_five_by_five_filters_leave_28_of_32_pixels():
    rows = summary(nn.Sequential(nn.Conv2d(3, 6, 5), nn.Conv2d(6, 4, 5, padding=2)), (3, 32, 32))
    assert [row.output_shape for row in rows.layers] == [(6, 28, 28), (4, 28, 28)]
    assert rows.layers[0].weights == 6 * (5 * 5 * 3 + 1)


def test_half_the_side_and_twice_the_channels_cost_the_same():
    wide, deep = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(128, 128, 3, padding=1)
    costs = [
        summary(nn.Sequential(c), s).flops for c, s in ((wide, (64, 28, 28)), (deep, (128, 14, 14)))
    ]
    assert costs[0] == costs[1]


def test_a_one_by_one_convolution_is_a_linear_layer_at_every_pixel():
    layer, inputs = nn.Conv2d(5, 3, 1), torch.randn(2, 5, 4, 4)
    expected = F.linear(inputs.movedim(1, -1), layer.weight[:, :, 0, 0], layer.bias).movedim(-1, 1)
    torch.testing.assert_close(layer(inputs), expected)


def test_a_naive_convolution_is_pytorchs():
    """Loops, and unfold with one matrix product."""
    inputs, weight = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    naive = torch.stack(
        [
            torch.einsum("bcyx,ocyx->bo", inputs[:, :, y : y + 3, x : x + 3], weight)
            for y, x in product(range(4), range(4))
        ],
        dim=-1,
    ).unflatten(-1, (4, 4))
    columns = (weight.flatten(1) @ F.unfold(inputs, 3)).unflatten(-1, (4, 4))
    for found in (naive, columns):
        torch.testing.assert_close(found, F.conv2d(inputs, weight), rtol=1e-4, atol=1e-4)


def test_pooling_has_no_weights_and_halves_the_sides():
    """Max pooling is not linear, average pooling is."""
    a, b = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    (row,) = summary(nn.Sequential(nn.MaxPool2d(2)), (3, 8, 8)).layers
    assert (row.output_shape, row.weights) == ((3, 4, 4), 0)
    average, largest = nn.AvgPool2d(2), nn.MaxPool2d(2)
    torch.testing.assert_close(average(a + b), average(a) + average(b))
    assert not torch.allclose(largest(a + b), largest(a) + largest(b))


def test_layers_without_activations_collapse_into_one():
    one, two, inputs = nn.Linear(5, 7, bias=False), nn.Linear(7, 3, bias=False), torch.randn(4, 5)
    torch.testing.assert_close(two(one(inputs)), inputs @ (two.weight @ one.weight).T)


def test_bytes_are_four_a_number():
    found = summary(MODELS["mlp"](3, input_shape=(6,), width=8, depth=1), (6,))
    assert found.weight_bytes == 4 * (6 * 8 + 8 + 8 * 3 + 3)
    assert found.activation_bytes == 4 * sum(prod(row.output_shape) for row in found.layers)
