"""Transfer: whether to, from which network, and the head that is fitted to its features."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from thalweg.data import Dataset
from thalweg.data.images.image_size import probe
from thalweg.data.samples import Files
from thalweg.data.sources import samples_at
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

CHOSEN = f"transfer: few photographs, so {PACKAGED_MODEL} with ImageNet weights"
GOES_ON = {
    "probe": "a head is fitted to what it sees; --transfer all also trains its layers from "
    "there, --transfer none a network from scratch",
    "all": "all its layers are trained, after its head; --transfer none trains from scratch",
}
EXTRA = 'pip install "thalweg[pretrained]"'


def implied(changes: Mapping[str, Any]) -> tuple[dict[str, object], str]:
    """Recipe keys about transfer that follow from what was asked for, or else from the data.

    And a note for the user where the data decided, "" where not.
    Raises: UsageError, DataError where transfer is asked for that cannot be had.
    """
    method, weights = changes.get("transfer.method"), changes.get("transfer.weights")
    if method == "none":
        return {}, ""
    if method or weights:
        return _completed(changes, str(method or "probe")), ""
    if "model.name" in changes or "model.changes" in changes or not _few_photographs(changes):
        return {}, ""
    if not is_package_installed():
        return {}, (f"few photographs: a pretrained network would do better, in less time; {EXTRA}")
    method = "all" if changes.get("budget.epochs") else "probe"
    return _completed(changes, method), f"{CHOSEN}; {GOES_ON[method]}"


def _completed(changes: Mapping[str, Any], method: str) -> dict[str, object]:
    """Network, weights and image size where they were not named."""
    model = str(changes.get("model.name") or PACKAGED_MODEL)
    usual = PACKAGE if model == PACKAGED_MODEL else TIMM if model.startswith(PREFIX) else ""
    weights = str(changes.get("transfer.weights") or usual)
    check_weights(model, weights)
    if weights not in (PACKAGE, TIMM):
        weights = str(Path(weights).absolute())  # so that a run can be resumed from elsewhere
    return {
        "transfer.method": method,
        "transfer.weights": weights,
        "model.name": model,
        "data.image_size": changes.get("data.image_size") or input_format(model).image_size,
    }


def _few_photographs(changes: Mapping[str, Any]) -> bool:
    """Whether the data are images of that kind and number; a look at a few of their headers."""
    path, size = str(changes.get("data.path", "")), changes.get("data.image_size") or PHOTOGRAPH
    if not path or int(size) < PHOTOGRAPH:
        return False
    inputs = samples_at(Path(path), target=str(changes.get("data.target", ""))).inputs
    if len(inputs) > FEW_SAMPLES:
        return False
    if isinstance(inputs, Files):
        found = probe(inputs)
        return found.channels == 3 and min(found.original_size) >= PHOTOGRAPH
    return inputs.ndim == 4 and inputs.shape[-1] == 3 and min(inputs.shape[1:3]) >= PHOTOGRAPH


def adapted(dataset: Dataset, recipe: Mapping[str, Any]) -> Dataset:
    """The data as the pretrained network wants them: three channels, normalised as it knows it."""
    if recipe["transfer.method"] == "none":
        return dataset
    if dataset.facts.kind != "image":
        raise UsageError(
            "transfer is for images",
            seen=f"{recipe['data.path']}: rows of {dataset.facts.input_shape[0]} numbers",
            fix="--transfer none",
        )
    wanted = input_format(recipe["model.name"])
    asked = f"(as {recipe['model.name']} asks)"
    return replace(
        dataset,
        notes=tuple(note.replace("(as asked)", asked) for note in dataset.notes),
        preprocessing=replace(dataset.preprocessing, channels=3, mean=wanted.mean, std=wanted.std),
        facts=replace(dataset.facts, input_shape=(3, *dataset.facts.input_shape[1:])),
    )


def freeze_for(recipe: Recipe, model: nn.Module, *, outputs: int) -> None:
    """Leave gradients to the layers that the method trains."""
    method = recipe.transfer.method
    if method in ("none", "all"):
        return
    name, head = named_head(model, outputs=outputs)
    trained = {f"{name}.{weight}" for weight, _ in head.named_parameters()}
    freeze(model, trained | last_third(model) if method == "last" else trained)
