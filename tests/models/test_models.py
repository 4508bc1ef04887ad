from math import inf, log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data.batch import forward
from thalweg.errors import UnknownNameError, UsageError
from thalweg.models import MODELS, input_kind
from thalweg.models.build import build_model

IMAGES = (3, 32, 32)
BATTERY: dict[str, Any] = {  # one member of every family, small enough to train: name → changes
    "mlp": {"width": 16},
    "tabular": {"width": 16, "numbers": 4, "bins": 4, "categories": "20,30"},
    "convnet": {"width": 16},
    "airbench": {"width": 16},
    "resnet18": {"width": 16},
    "resnet50": {"width": 16},
    "resnext50_32x4d": {"width": 16},
    "resnet20": {},
    "plain20": {},
    "resnext29_8x64d": {"group_width": 4},
    "cifar_vgg11_bn": {"dropout": 0.0},
    "efficientnet_lite0": {"dropout": 0.0},
    "vit_tiny": {"depth": 2, "patch_size": 8},
    "rnn_lm": {"width": 16},
    "lstm_lm": {"width": 16},
    "gru_lm": {"width": 16, "depth": 2},
    "transformer_lm": {"width": 16, "depth": 2, "heads": 2},
    "rnn_seq2seq": {"width": 16},
    "lstm_seq2seq": {"width": 16, "attention": "additive"},
    "gru_seq2seq": {"width": 16, "depth": 2},
    "transformer_seq2seq": {"width": 16, "depth": 2, "heads": 2},
    "bag_of_ngrams": {"columns": 5, "numbers": 3, "bins": 4, "width": 16},
    "text_rnn": {"width": 16, "words": 30},
    "text_lstm": {"width": 16, "words": 30, "columns": 5},
    "text_gru": {"width": 16, "words": 30},
    "text_transformer": {"width": 16, "words": 30, "heads": 2},
}
SHAPES = {"numbers": IMAGES, "tokens": (12,), "pairs": (9, 12, 10), "texts": (30,)}
OF_NUMBERS = [name for name in BATTERY if input_kind(name) == "numbers"]
CASES = [(name, SHAPES[input_kind(name)]) for name in BATTERY] + [
    ("mlp", (5,)),
    ("convnet", (1, 8, 8)),
    ("convnet", (3, 64, 64)),
    ("convnet", (1, 33, 17)),
    ("airbench", (1, 9, 12)),
    ("airbench", (3, 48, 64)),
    ("resnet18", (3, 96, 64)),
    ("resnet50", (1, 65, 65)),
]
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def built(name, shape=IMAGES, num_classes=10, **changes):
    torch.manual_seed(0)
    return MODELS[name](num_classes, input_shape=shape, **changes)


def samples_for(name, shape):
    """Random inputs of the model's kind; targets are a class a sample, or a token a position."""
    if input_kind(name) == "tokens":
        tokens = torch.randint(10, (16, shape[0] + 1))
        return tokens[:, :-1], tokens[:, 1:]
    if input_kind(name) == "pairs":
        tokens = torch.randint(10, (16, shape[1] + 1))
        source = torch.randint(10, (16, shape[0]))
        return {"tokens": tokens[:, :-1], "source": source}, tokens[:, 1:]
    if input_kind(name) == "texts":
        return texts_for(BATTERY[name]), torch.arange(16) % 10
    return torch.randn(16, *shape), torch.arange(16) % 10


def texts_for(changes):
    """Sixteen texts of 1 to 12 words as a group of tensors, with columns where they are taken."""
    tokens = torch.randint(1, 30, (16, 12))
    mask = torch.arange(12) <= torch.arange(16)[:, None] % 12
    group = {"tokens": tokens * mask, "mask": mask, "ngrams": tokens * mask, "weights": mask / 3}
    return group | ({"columns": torch.randn(16, 5)} if "columns" in changes else {})


def loss_of(model, inputs, targets):
    return F.cross_entropy(forward(model, inputs).flatten(0, -2), targets.flatten())


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_every_model_starts_at_chance_and_passes_gradients_to_every_weight(name, shape):
    model = built(name, shape, **BATTERY[name])
    inputs, targets = samples_for(name, shape)
    loss = loss_of(model, inputs, targets)
    assert loss.item() == pytest.approx(log(10), rel=0.03)
    loss.backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert all(weight.grad.isfinite().all() for weight in trained)
    assert forward(model.eval(), inputs).shape == (*targets.shape, 10)
    assert loss_of(model, inputs, targets).item() == pytest.approx(log(10), rel=0.1)


@pytest.mark.parametrize("name", [name for name in BATTERY if input_kind(name) == "texts"])
def test_a_text_alone_and_padded_has_the_outputs_that_it_has_in_a_batch(name):
    model, texts = built(name, (30,), **BATTERY[name]).eval(), texts_for(BATTERY[name])
    outputs = forward(model, texts)
    for row, length in ((0, 1), (5, 6), (11, 12)):
        alone = {k: v[row : row + 1, :length] for k, v in texts.items() if k != "columns"}
        if "columns" in texts:
            alone["columns"] = texts["columns"][row : row + 1]
        torch.testing.assert_close(forward(model, alone)[0], outputs[row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_every_model_of_numbers_serves_as_a_regressor(name):
    assert built(name, num_classes=1, **BATTERY[name])(torch.randn(4, *IMAGES)).shape == (4, 1)


@pytest.mark.parametrize("name", [n for n in OF_NUMBERS if n not in ("mlp", "tabular")])
def test_memory_order_does_not_change_the_outcome(name):
    model, inputs = built(name, **BATTERY[name]).eval(), torch.randn(4, *IMAGES)
    expected = model(inputs)
    last = torch.channels_last
    found = model.to(memory_format=last)(inputs.contiguous(memory_format=last))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet18", "vit_tiny"])
def test_a_model_learns_sixteen_samples_by_heart(name):
    model = built(name, (3, 16, 16), num_classes=4, **BATTERY[name])
    inputs, targets = torch.randn(16, 3, 16, 16), torch.arange(16) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5  # from ln 4 = 1.39


@pytest.mark.parametrize("name", DEPTHS)
def test_resnets_have_torchvisions_weight_names(name):
    """The names written down from torchvision's files, for instance resnet18-f37072fd.pth."""
    convolutions = ("conv1", "conv2", "conv3") if name == "resnet50" else ("conv1", "conv2")
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = ["conv1.weight", *(f"bn1.{part}" for part in norm), "fc.weight", "fc.bias"]
    for stage, depth in enumerate(DEPTHS[name], start=1):
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            for convolution in convolutions:
                expected.append(f"{prefix}.{convolution}.weight")
                index = convolution.removeprefix("conv")
                expected += [f"{prefix}.bn{index}.{part}" for part in norm]
            if block == 0 and (stage > 1 or name == "resnet50"):
                expected.append(f"{prefix}.downsample.0.weight")
                expected += [f"{prefix}.downsample.1.{part}" for part in norm]
    assert sorted(built(name).state_dict()) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        ("resnet18", "conv1.weight", (64, 3, 7, 7)),
        ("resnet18", "layer2.0.downsample.0.weight", (128, 64, 1, 1)),
        ("resnet34", "layer4.2.conv2.weight", (512, 512, 3, 3)),
        ("resnet50", "layer1.0.downsample.0.weight", (256, 64, 1, 1)),
        ("resnet50", "layer3.5.conv3.weight", (1024, 256, 1, 1)),
        ("resnet50", "fc.weight", (1000, 2048)),
    ],
)
def test_resnet_weights_have_torchvisions_shapes(name, key, shape):
    model = built(name, (3, 224, 224), num_classes=1000)
    assert tuple(model.state_dict()[key].shape) == shape


@pytest.mark.parametrize("name", DEPTHS)
def test_residual_blocks_start_as_the_identity(name):
    model = built(name)
    for stage in (model.layer1, model.layer4):
        block = stage[-1]
        last = block.bn3 if name == "resnet50" else block.bn2
        assert not last.weight.any()
        inputs = torch.rand(2, block.conv1.in_channels, 4, 4)
        torch.testing.assert_close(block(inputs), inputs)


@pytest.mark.parametrize(
    "name", sorted(set(OF_NUMBERS) - {"mlp", "tabular", "vit_tiny", "airbench"})
)
def test_filters_have_he_initialisation(name):
    """Var w = 2 / fan in or 2 / fan out: arXiv:1502.01852, eq. 10 and 14."""
    for module in built(name).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5_000:
            area = module.kernel_size[0] * module.kernel_size[1] / module.groups
            stds = [(2 / n / area) ** 0.5 for n in (module.in_channels, module.out_channels)]
            found = module.weight.std().item()
            assert min(abs(found / std - 1) for std in stds) < 0.1


@pytest.mark.parametrize(
    ("shape", "stem", "places"),
    [
        ((3, 32, 32), "auto", 4),
        ((3, 64, 64), "auto", 8),
        ((3, 96, 96), "auto", 3),
        ((3, 64, 64), "imagenet", 2),
        ((3, 96, 96), "small", 12),
    ],
)
def test_the_stem_suits_the_image_size(shape, stem, places):
    model = built("resnet18", shape, stem=stem)
    seen = []
    model.layer4.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model.eval()(torch.randn(1, *shape))
    assert seen[0][-1] == places


def test_an_unknown_stem_is_refused():
    with pytest.raises(UnknownNameError, match="imagenet"):
        built("resnet18", stem="imagnet")


def test_an_unknown_model_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="resnet18"):
        MODELS["resnet-18"]


def test_changes_reach_the_network():
    model = built("mlp", (7,), width=5, depth=3, dropout=0.2)
    shapes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(5, 7), (5, 5), (5, 5), (10, 5)]
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == 3


@pytest.mark.parametrize(("key", "value"), [("width", 10**9), ("depth", 10**7), ("width", inf)])
def test_a_network_that_no_machine_holds_is_refused_before_it_is_built(key, value):
    with pytest.raises(UsageError, match=f"{key} ="):
        build_model("mlp", 3, input_shape=(4,), changes={key: value})
