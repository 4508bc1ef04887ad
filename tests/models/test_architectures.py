"""Every architecture by its published numbers.

Counts and digests of weight names were taken from torchvision 0.29.2 and timm 1.0.31, built on the
meta device; the CIFAR counts are those of the papers' tables and the checkpoints' own README.
"""

import re
from hashlib import sha256
from typing import Any

import pytest
import torch
from torch import nn

from thalweg.errors import UsageError
from thalweg.models import MODELS

# (weights at 1000 classes, sha256 of the sorted "name shape" lines)
IMAGENET = {
    "vgg11": (132_863_336, "b11acd4f90d9643f"),
    "vgg11_bn": (132_868_840, "56ed5816909a8132"),
    "vgg13": (133_047_848, "79ca8fd7a1480aa7"),
    "vgg13_bn": (133_053_736, "e4f52ce016e5e82f"),
    "vgg16": (138_357_544, "ba63c2556d912509"),
    "vgg16_bn": (138_365_992, "86bad13b66635552"),
    "vgg19": (143_667_240, "393fac8b08b63fbe"),
    "vgg19_bn": (143_678_248, "faf0fdbb92f698c6"),
    "resnet18": (11_689_512, "5191d63ec3989592"),
    "resnet34": (21_797_672, "f8de2a1812ef85e4"),
    "resnet50": (25_557_032, "a87e91cd6bd1f939"),
    "resnet101": (44_549_160, "dbc3ca74fffafc72"),
    "resnext50_32x4d": (25_028_904, "20929ac81dfcc94f"),
    "efficientnet_lite0": (4_652_008, "335464100f8fc06c"),
    "vit_tiny": (5_717_416, "e1821155d0eba217"),
    "vit_small": (22_050_664, "02ef580c167435d6"),
}
CIFAR = {
    "airbench": 1_972_792,  # by hand in test_airbench.py
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "plain20": 269_722,
    "plain32": 464_154,
    "plain44": 658_586,
    "plain56": 853_018,
    "plain110": 1_727_962,
    "resnext29_8x64d": 34_426_698,
    "resnext29_16x64d": 68_155_210,
    "cifar_vgg11_bn": 9_756_426,
    "cifar_vgg13_bn": 9_941_322,
    "cifar_vgg16_bn": 15_253_578,
    "cifar_vgg19_bn": 20_565_834,
}
LANGUAGE = {  # at 65 tokens, by hand: torch counts two biases a gate
    "rnn_lm": 65 * 256 + 256 * 512 + 512 + 256 * 65 + 65,
    "lstm_lm": 65 * 256 + 4 * (256 * 512 + 512) + 256 * 65 + 65,
    "gru_lm": 65 * 256 + 3 * (256 * 512 + 512) + 256 * 65 + 65,
    "transformer_lm": 2 * 65 * 128 + 4 * 12 * 128**2,
}


def on_paper(name, num_classes, side, **changes):
    """The model without memory for its weights."""
    with torch.device("meta"):
        return MODELS[name](num_classes, input_shape=(3, side, side), **changes)


def count(model):
    return sum(weight.numel() for weight in model.parameters())


def test_every_model_has_its_numbers_here():
    others = {"mlp", "tabular", "forecaster", "convnet", "film_answerer", "bag_of_ngrams"}
    others |= LANGUAGE.keys() | {name for name in MODELS if re.search("_seq2seq$|^text_", name)}
    assert others | IMAGENET.keys() | CIFAR.keys() == set(MODELS)


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_models_have_the_published_weights_by_count_name_and_shape(name):
    model = on_paper(name, 1000, 224)
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items())
    digest = sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert (count(model), digest) == IMAGENET[name]


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_models_have_the_published_number_of_weights(name):
    assert count(on_paper(name, 10, 32)) == CIFAR[name]


@pytest.mark.parametrize("name", LANGUAGE)
def test_language_models_have_as_many_weights_as_their_equations(name):
    with torch.device("meta"):
        model = MODELS[name](65, input_shape=(64,))
    assert count(model) == LANGUAGE[name]


@pytest.mark.parametrize("name", sorted(IMAGENET.keys() | CIFAR.keys()))
def test_every_model_maps_images_to_one_logit_a_class(name):
    side = 224 if name in IMAGENET else 32
    model = on_paper(name, 7, side).eval()
    assert model(torch.empty(2, 3, side, side, device="meta")).shape == (2, 7)


def test_a_projection_shortcut_adds_its_weights_and_a_padded_one_none():
    """Option B adds two 1×1 convolutions and two batch norms."""
    added = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    projected = on_paper("resnet20", 10, 32, shortcut="B")
    assert count(projected) - CIFAR["resnet20"] == added


def test_a_padded_shortcut_keeps_every_second_pixel_and_adds_empty_channels():
    model: Any = MODELS["resnet20"](10, input_shape=(3, 32, 32))
    inputs = torch.randn(1, 16, 4, 4)
    outputs = model.layer2[0].shortcut(inputs)
    torch.testing.assert_close(outputs[:, 8:24], inputs[:, :, ::2, ::2])
    assert outputs[:, :8].count_nonzero() == outputs[:, 24:].count_nonzero() == 0


def test_bottlenecks_cost_the_same_in_groups():
    """ResNeXt's point: 70,144 weights in 32 groups of 4, 69,632 in one of 64."""

    def convolutions(name):
        block = on_paper(name, 1000, 224).layer1[1]
        return sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d))

    assert (convolutions("resnet50"), convolutions("resnext50_32x4d")) == (69_632, 70_144)


def test_stacked_small_kernels_see_as_much_for_fewer_weights():
    """Two 3×3: 18C² < 25C²; three: 27C² < 49C²."""

    def weights(kernel, layers, channels=64):
        stack = [nn.Conv2d(channels, channels, kernel, bias=False) for _ in range(layers)]
        return sum(layer.weight.numel() for layer in stack) / channels**2

    assert (weights(3, 2), weights(5, 1)) == (18, 25)
    assert (weights(3, 3), weights(7, 1)) == (27, 49)


def test_a_plain_net_is_the_residual_one_without_its_skips():
    """a block whose branch is zero is the identity; a plain one is zero."""
    inputs = torch.rand(2, 16, 8, 8)
    for name, expected in (("resnet20", inputs), ("plain20", torch.zeros_like(inputs))):
        model: Any = MODELS[name](10, input_shape=(3, 32, 32))
        block = model.layer1[0]
        nn.init.zeros_(block.branch_end().weight)
        torch.testing.assert_close(block(inputs), expected)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_vit_reads_images_of_any_size_that_divides_into_patches(pool):
    model = MODELS["vit_tiny"](4, input_shape=(1, 16, 24), patch_size=8, depth=2, pool=pool)
    assert model.pos_embed.shape == (1, 2 * 3 + 1, 192)
    assert model(torch.randn(3, 1, 16, 24)).shape == (3, 4)


BAD = [
    ("lstm_lm", (3, 32, 32), {}, "reads texts"),
    ("transformer_lm", (3, 32, 32), {}, "reads texts"),
    ("transformer_lm", (32,), {"width": 30}, "does not divide into heads"),
    ("vit_tiny", (3, 30, 30), {}, "whole patches"),
    ("resnet18", (3, 8, 8), {}, "at least 16 × 16"),
    ("resnet50", (3, 48, 48), {"stem": "imagenet"}, "at least 64 × 64"),
    ("resnet20", (3, 6, 6), {}, "at least 8 × 8"),
    ("resnext29_8x64d", (3, 6, 6), {}, "at least 8 × 8"),
    ("vgg16", (3, 28, 28), {}, "at least 32 × 32"),
    ("efficientnet_lite0", (3, 28, 28), {}, "at least 32 × 32"),
    ("resnet20", (12,), {}, "reads images"),
    ("convnet", (12,), {}, "reads images"),
    ("resnet18", (12,), {}, "reads images"),
    ("resnet20", (3, 32, 32), {"shortcut": "C"}, "no shortcut is called 'C'"),
    ("vgg11", (3, 32, 32), {"head": "none"}, "no head is called 'none'"),
    ("vit_tiny", (3, 32, 32), {"pool": "max"}, "no pool is called 'max'"),
    ("mlp", (12,), {"activation": "relo"}, "no activation is called 'relo'"),
    ("tabular", (12,), {"numbers": 10, "categories": "5"}, "do not fit the table"),
    ("mlp", (12,), {"norm": "instance"}, "positions to average over"),
    ("convnet", (3, 16, 16), {"init": "glorot"}, "no initialisation is called 'glorot'"),
]


@pytest.mark.parametrize(("name", "shape", "changes", "said"), BAD, ids=str)
def test_what_cannot_be_built_is_one_clear_error(name, shape, changes, said):
    with pytest.raises(UsageError, match=said) as caught, torch.device("meta"):
        MODELS[name](10, input_shape=shape, **changes)
    assert caught.value.fix
