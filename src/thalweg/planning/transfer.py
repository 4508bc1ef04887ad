"""Transfer: whether to start from a pretrained network, from which, and which layers to train."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from thalweg.data import Dataset
from thalweg.data.images.image_size import sample_images
from thalweg.data.samples import Files, Samples
from thalweg.errors import UsageError
from thalweg.models.pretrained.head import freeze, last_third, named_head
from thalweg.models.pretrained.timm_model import PREFIX
from thalweg.models.pretrained.weight_sources import (
    PACKAGE,
    PACKAGED_MODEL,
    TIMM,
    check_weights,
    input_format,
    is_package_installed,
)
from thalweg.recipes.recipe import Recipe
from thalweg.recipes.transfer import FEW_SAMPLES, PHOTOGRAPH

DEFAULT_NOTE = f"transfer: few photographs, so {PACKAGED_MODEL} with ImageNet weights"
METHOD_NOTES = {
    "probe": "a head is fitted to what it sees; --transfer all also trains its layers from "
    "there, --transfer none a network from scratch",
    "all": "all its layers are trained, after its head; --transfer none trains from scratch",
}
EXTRA = 'pip install "thalweg[pretrained]"'


def implied_transfer(
    changes: Mapping[str, Any], list_samples: Callable[[], Samples]
) -> tuple[dict[str, object], str]:
    """Recipe keys of a transfer that follow from the user's changes, or else from the data.

    The note for the user is "" unless the data decided.
    Raises: UsageError, DataError for a transfer that is impossible.
    """
    method, weights = changes.get("transfer.method"), changes.get("transfer.weights")
    if method == "none":
        return {}, ""
    if method or weights:
        return _transfer_keys(changes, str(method or "probe")), ""
    if "model.name" in changes or "model.changes" in changes:
        return {}, ""
    if not _allows_photographs(changes) or not _are_few_photographs(list_samples()):
        return {}, ""
    if not is_package_installed():
        return {}, (f"few photographs: a pretrained network would do better, in less time; {EXTRA}")
    method = "all" if changes.get("budget.epochs") else "probe"
    return _transfer_keys(changes, method), f"{DEFAULT_NOTE}; {METHOD_NOTES[method]}"


def _transfer_keys(changes: Mapping[str, Any], method: str) -> dict[str, object]:
    """The method with network, weights and image size, each as named or by default."""
    model = str(changes.get("model.name") or PACKAGED_MODEL)
    default = PACKAGE if model == PACKAGED_MODEL else TIMM if model.startswith(PREFIX) else ""
    weights = str(changes.get("transfer.weights") or default)
    check_weights(model, weights)
    if weights not in (PACKAGE, TIMM):
        weights = str(Path(weights).absolute())  # so that a run can be resumed from elsewhere
    return {
        "transfer.method": method,
        "transfer.weights": weights,
        "model.name": model,
        "data.image_size": changes.get("data.image_size") or input_format(model).image_size,
    }


def _allows_photographs(changes: Mapping[str, Any]) -> bool:
    """Return whether the data may be photographs, by the image size that the user names."""
    size = changes.get("data.image_size") or PHOTOGRAPH
    return bool(changes.get("data.path")) and int(size) >= PHOTOGRAPH


def _are_few_photographs(samples: Samples) -> bool:
    """Return whether the samples are few photographs, by the headers of some of them."""
    inputs = samples.inputs
    if len(inputs) > FEW_SAMPLES:
        return False
    if isinstance(inputs, Files):
        images = sample_images(inputs)
        return images.channels == 3 and min(images.original_size) >= PHOTOGRAPH
    return inputs.ndim == 4 and inputs.shape[-1] == 3 and min(inputs.shape[1:3]) >= PHOTOGRAPH


def dataset_for_network(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The data as the recipe's pretrained network expects them: three channels, its statistics."""
    if recipe.transfer.method == "none":
        return dataset
    if dataset.facts.kind != "image":
        raise UsageError(
            "transfer is for images",
            seen=f"{recipe.data.path}: rows of {dataset.facts.input_shape[0]} numbers",
            fix="--transfer none",
        )
    network, reason = input_format(recipe.model.name), f"(as {recipe.model.name} asks)"
    return replace(
        dataset,
        notes=tuple(note.replace("(as asked)", reason) for note in dataset.notes),
        preprocessing=replace(
            dataset.preprocessing, channels=3, mean=network.mean, std=network.std
        ),
        facts=replace(dataset.facts, input_shape=(3, *dataset.facts.input_shape[1:])),
    )


def freeze_for(recipe: Recipe, model: nn.Module, *, outputs: int) -> None:
    """Leave gradients to the layers that the recipe's method trains."""
    method = recipe.transfer.method
    if method in ("none", "all"):
        return
    name, head = named_head(model, outputs=outputs)
    trained = {f"{name}.{weight}" for weight, _ in head.named_parameters()}
    freeze(model, trained | last_third(model) if method == "last" else trained)
