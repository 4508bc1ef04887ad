"""Wishes and data → a Plan: read the data, choose the recipe, refuse what cannot be trained."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch

from thalweg.borrow import preserve_random_state
from thalweg.data import Dataset, load_dataset
from thalweg.data.images.mirror_test import mirror_test_of_rows, sample_rows
from thalweg.data.modalities import MODALITIES
from thalweg.data.samples import Samples
from thalweg.data.sources import samples_at
from thalweg.errors import UsageError
from thalweg.paths import check_path
from thalweg.planning.checks import (
    check_edits,
    check_model,
    check_recipe,
    series_options,
    text_options,
)
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.planning.transfer import dataset_for_network, implied_transfer, with_size_reason
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import AUTO, Recipe
from thalweg.recipes.transfer import transfer_edits
from thalweg.tasks.losses import takes_soft_targets


def make_plan(
    path: str | Path,
    edits: Mapping[str, object],
    *,
    progress: Progress | None = None,
    overlap: bool = False,
) -> Plan:
    """Read the data at `path` and choose the recipe, without training.

    With `overlap` image files may still be being decoded: see the data set's `decoding`.
    """
    changes = dict(edits)
    if path:
        changes["data.path"] = str(path)
    changes["data.path"] = absolute_if_exists(str(changes.get("data.path", "")))
    requested = Recipe().edited(changes)  # refuses unknown keys and values before anything is read
    check_edits(requested, changes)
    data = requested.data
    list_samples = cache(
        partial(
            samples_at,
            Path(data.path),
            target=data.target,
            group=data.group,
            source=data.source,
            task=task_name(requested),
            series=series_options(requested),
        )
    )
    transfer, note = implied_transfer(changes, list_samples)
    requested = requested.edited(transfer)
    progress = progress or Progress()
    dataset = read_dataset(
        requested,
        progress,
        note=note,
        overlap=overlap,
        list_samples=list_samples,
        has_own_fraction="data.val_fraction" in changes,
    )
    facts, number_of_notes = dataset.facts, len(dataset.notes)
    defaults: dict[str, object] = {"device": best_device(), "data.path": changes["data.path"]}
    defaults["data.val_fraction"] = dataset.modality.val_fraction
    if transfer:
        defaults |= transfer_edits(facts, requested.transfer.method) | transfer
    defaults |= dataset.modality.implied_keys(facts)
    default_recipe = recipe_for(facts, {**changes, **transfer}).edited(defaults)
    if _mirrors(default_recipe) and not MIRRORING.intersection(changes):
        default_recipe, dataset = _without_harmful_flip(default_recipe, dataset)
        progress.messages.extend(dataset.notes[number_of_notes:])
    user_edits = {key: v for key, v in changes.items() if key != "data.image_size" or v}
    plan = Plan(
        recipe=_recipe_with(default_recipe, user_edits),
        defaults=default_recipe,
        dataset=dataset,
        user_keys=frozenset(user_edits),
        notes=dataset.notes,
    )
    _check(plan)
    return plan


MIRRORING = frozenset({"augment.flip", "transfer.copies_per_image"})


def _mirrors(recipe: Recipe) -> bool:
    return recipe.augment.flip or recipe.transfer.copies_per_image > 1


def _without_harmful_flip(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
    """The recipe without mirrored images, and a note, where these would show another class."""
    rows = dataset.indices["train"]
    if not dataset.class_names or dataset.modality.layout != "pixels":
        return recipe, dataset
    chosen = sample_rows(dataset.targets, rows)
    if dataset.decoding is not None:
        dataset.decoding.wait_for(chosen)
    test = mirror_test_of_rows(dataset.inputs, dataset.targets, chosen)
    if test is None or not test.is_harmful:
        return recipe, dataset
    edits: dict[str, object] = {
        "augment.flip": False,
        "augment.alternating_flip": False,
        "transfer.copies_per_image": 1,
    }
    if recipe.evaluation.test_time_augmentation != "none":
        edits |= {"evaluation.test_time_augmentation": "none"}
        edits |= {"evaluation.confidence_threshold": 1.0}
    return recipe.edited(edits), replace(dataset, notes=(*dataset.notes, test.note))


def plan_of(recipe: Recipe, progress: Progress) -> Plan:
    """The plan of a complete recipe, such as a run's: its data are read, nothing is chosen."""
    dataset = read_dataset(recipe, progress, size_reason="(as in the recipe)")
    return Plan(recipe=recipe, defaults=recipe, dataset=dataset, notes=dataset.notes)


# Keys of a recipe that hold for one class a sample alone.
WITHOUT_ONE_CLASS: dict[str, object] = {
    "task.label_smoothing": 0.0,
    "evaluation.confidence_threshold": 1.0,
}


def recipe_for(facts: DataFacts, chosen: Mapping[str, object] | None = None) -> Recipe:
    """The modality's recipe for the data, and for the keys that were chosen already, if any."""
    recipe = MODALITIES[facts.modality].recipe(facts, chosen or {})
    recipe = recipe.edited({"task.name": facts.task})
    return recipe if facts.has_one_class else recipe.edited(WITHOUT_ONE_CLASS)


def _recipe_with(defaults: Recipe, user_edits: Mapping[str, object]) -> Recipe:
    """The defaults with the user's edits; defaults that the edits make meaningless are reset."""
    recipe = defaults.edited(user_edits)
    reset: dict[str, object] = {}
    if recipe.model.name != defaults.model.name:
        reset["model.changes"] = {}  # they were for the other network
    if recipe.optimizer.name != defaults.optimizer.name:
        reset["optimizer.changes"] = {}
    if not takes_soft_targets(recipe.task.loss):
        reset["task.label_smoothing"] = 0.0
    if "budget.epochs" in user_edits:
        reset["budget.steps"] = 0
    if "budget.steps" in user_edits and defaults.budget.steps:
        share = recipe.budget.steps / defaults.budget.steps
        reset["evaluation.steps"] = max(1, round(share * defaults.evaluation.steps))
    if not recipe.augment.flip:
        reset["augment.alternating_flip"] = False
    if recipe.evaluation.test_time_augmentation == "none":
        reset["evaluation.confidence_threshold"] = 1.0
    return recipe.edited({key: v for key, v in reset.items() if key not in user_edits})


def _check(plan: Plan) -> None:
    """Raises: UsageError for what cannot be trained, before it is begun."""
    check_recipe(plan.recipe, plan.dataset.facts)
    with preserve_random_state():
        check_model(plan.recipe, plan.spec.build(), plan.dataset.facts)
    plan.spec.build_task(plan.recipe.task)


def read_dataset(
    recipe: Recipe,
    progress: Progress,
    *,
    note: str = "",
    overlap: bool = False,
    list_samples: Callable[[], Samples] | None = None,
    has_own_fraction: bool = True,
    size_reason: str = "",
) -> Dataset:
    """Read the recipe's data as its network needs them; `note` is added to the data set's notes.

    `size_reason` is the reason in the note on the image size, where it is not that somebody asked.
    Without `has_own_fraction` the modality says how much validates, not the recipe.
    """
    data = recipe.data
    if not data.path:
        raise UsageError("no data was named", fix="thalweg train PATH, or data.path in the recipe")

    def show(done: int, total: int) -> None:
        progress.samples = (done, total)

    progress.phase = "reading"
    dataset = load_dataset(
        data.path,
        image_size=data.image_size,
        val_fraction=data.val_fraction if has_own_fraction else None,
        test_fraction=data.test_fraction,
        folds=data.folds,
        fold=data.fold,
        seed=recipe.seed,
        target=data.target,
        group=data.group,
        task=task_name(recipe),
        text=text_options(data),
        series=series_options(recipe),
        progress=show,
        overlap=overlap and recipe.transfer.method == "none",  # features are of all at once
        list_samples=list_samples,
    )
    dataset = dataset_for_network(dataset, recipe)
    if size_reason:
        dataset = with_size_reason(dataset, size_reason)
    if note:
        dataset = replace(dataset, notes=(*dataset.notes, note))
    progress.messages.extend(dataset.notes)
    return dataset


def task_name(recipe: Recipe) -> str:
    """The task that the recipe names; "" where the targets choose it."""
    return "" if recipe.task.name == AUTO else recipe.task.name


def absolute_if_exists(path: str) -> str:
    """The absolute path of a file, so that a run can be resumed from elsewhere; or `path` as is.

    Raises: UsageError for a web address.
    """
    if path:
        check_path(path, role="the path of the data")  # from a file or the environment as well
    return str(Path(path).absolute()) if path and Path(path).exists() else path


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
