"""Transfer: whether to start from a pretrained network, from which, and in what input format."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thalweg.data import Dataset
from thalweg.data.modalities import modality_of
from thalweg.data.samples import Samples
from thalweg.errors import UsageError
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
from thalweg.recipes.transfer import PHOTOGRAPH

DEFAULT_NOTE = f"transfer: few photographs, so {PACKAGED_MODEL} with ImageNet weights"
METHOD_NOTES = {
    "probe": "a head is fitted to what it sees; --transfer all also trains its layers from "
    "there, --transfer none a network from scratch",
    "all": "all its layers are trained, after its head; --transfer none trains from scratch",
}
AS_ASKED = "(as asked)"  # in the note on the size of images
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
    if not _allows_photographs(changes):
        return {}, ""
    inputs = list_samples().inputs
    if not modality_of(inputs).suits_pretrained(inputs):
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


def dataset_for_network(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The data in the format that the recipe's pretrained network was trained on."""
    if recipe.transfer.method == "none":
        return dataset
    to_format = dataset.modality.pretrained_format
    if to_format is None:
        raise UsageError(
            "transfer is for images",
            seen=f"{recipe.data.path}: {dataset.modality.noun}s",
            fix="--transfer none",
        )
    network, reason = input_format(recipe.model.name), f"(as {recipe.model.name} asks)"
    preprocessing, facts = to_format(
        dataset.preprocessing, dataset.facts, (network.mean, network.std)
    )
    fitted = replace(dataset, preprocessing=preprocessing, facts=facts)
    return with_size_reason(fitted, reason)


def with_size_reason(dataset: Dataset, reason: str) -> Dataset:
    """The data set with another reason in its note on the size of images."""
    notes = (n.replace(AS_ASKED, reason) if AS_ASKED in n else n for n in dataset.notes)
    return replace(dataset, notes=tuple(notes))
