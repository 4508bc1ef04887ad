"""Data and wishes → a recipe: what a training would be, before it begins."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch

from thalweg.borrow import preserve_random_state
from thalweg.data import Dataset, load_dataset
from thalweg.data.images.test_time_augmentation import Views
from thalweg.errors import UsageError
from thalweg.inference.saved_model import ModelSpec
from thalweg.planning.checks import check_model, check_recipe
from thalweg.planning.progress import Progress
from thalweg.planning.transfer import adapted, implied
from thalweg.recipes.choice import recipe_for
from thalweg.recipes.recipe import Recipe
from thalweg.recipes.transfer import transfer_edits
from thalweg.tasks import Task
from thalweg.tasks.losses import takes_soft_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training would be: the resolved recipe and the data that it was chosen for."""

    recipe: Recipe
    defaults: Recipe  # what the data alone would have chosen
    dataset: Dataset
    given: frozenset[str] = frozenset()  # keys that the user chose: nothing else may change them
    notes: tuple[str, ...] = ()  # what was chosen since, and why

    @property
    def drop_last(self) -> bool:
        """Leave a last batch of one sample out of the epoch: it has no variance to normalise by."""
        count, size = self.dataset.facts.counts["train"], self.recipe.batch.size
        return count > size and count % size == 1

    @property
    def steps_per_epoch(self) -> int:
        count, batch = self.dataset.facts.counts["train"], self.recipe.batch
        batches = count // batch.size if self.drop_last else ceil(count / batch.size)
        return max(1, batches // batch.accumulate)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.recipe.budget.epochs


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
    changes["data.path"] = from_root(str(changes.get("data.path", "")))
    Recipe().edited(changes)  # refuses unknown keys and values before anything is read
    transfer, note = implied(changes)
    wanted = Recipe().edited({**changes, **transfer}).flat()
    dataset = read_dataset(wanted, progress or Progress(), note=note, overlap=overlap)
    found: dict[str, object] = {"device": best_device(), "data.path": changes["data.path"]}
    if transfer:
        found |= transfer_edits(dataset.facts, wanted["transfer.method"]) | transfer
    if dataset.facts.kind == "image":
        found["data.image_size"] = dataset.facts.input_shape[-1]
    defaults = recipe_for(dataset.facts, {**changes, **transfer}).edited(found)
    chosen = {key: value for key, value in changes.items() if key != "data.image_size" or value}
    recipe = _suited(defaults, chosen)
    check_recipe(recipe, dataset.facts)
    ready = Plan(recipe=recipe, defaults=defaults, dataset=dataset, given=frozenset(chosen))
    with preserve_random_state():  # a network that cannot be is refused here, not later
        check_model(recipe, spec_of(ready).build(), dataset.facts)
    training_task(spec_of(ready), recipe)
    return ready


def _suited(defaults: Recipe, chosen: Mapping[str, object]) -> Recipe:
    """The defaults with what was chosen; a default that the choice has no use for gives way."""
    recipe = defaults.edited(chosen)
    if "model.changes" not in chosen and recipe.model.name != defaults.model.name:
        recipe = recipe.edited({"model.changes": {}})  # they were for the other network
    if "task.label_smoothing" not in chosen and not takes_soft_targets(recipe.task.loss):
        recipe = recipe.edited({"task.label_smoothing": 0.0})
    if "augment.alternating_flip" not in chosen and not recipe.augment.flip:
        recipe = recipe.edited({"augment.alternating_flip": False})
    is_plain = recipe.evaluation.test_time_augmentation == "none"
    if is_plain and "evaluation.confidence_threshold" not in chosen:
        recipe = recipe.edited({"evaluation.confidence_threshold": 1.0})
    return recipe


def read_dataset(
    recipe: Mapping[str, Any], progress: Progress, *, note: str = "", overlap: bool = False
) -> Dataset:
    """The data that the recipe names, as its network wants them, with a note more of them."""
    if not recipe["data.path"]:
        raise UsageError("no data was named", fix="thalweg train PATH, or data.path in the recipe")

    def read(done: int, total: int) -> None:
        progress.samples = (done, total)

    progress.phase = "reading"
    dataset = load_dataset(
        recipe["data.path"],
        image_size=recipe["data.image_size"],
        val_fraction=recipe["data.val_fraction"],
        test_fraction=recipe["data.test_fraction"],
        folds=recipe["data.folds"],
        fold=recipe["data.fold"],
        seed=recipe["seed"],
        target=recipe["data.target"],
        progress=read,
        overlap=overlap and recipe["transfer.method"] == "none",  # features are of all at once
    )
    dataset = adapted(dataset, recipe)
    if note:
        dataset = replace(dataset, notes=(*dataset.notes, note))
    progress.messages.extend(dataset.notes)
    return dataset


def from_root(path: str) -> str:
    """A file's path from the root, so that a run can be resumed from elsewhere; else as given."""
    return str(Path(path).absolute()) if path and Path(path).exists() else path


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def training_task(spec: ModelSpec, recipe: Recipe) -> Task:
    """What success means, by the loss that the recipe names."""
    task = recipe.task
    settings = {key: float(value) for key, value in task.changes.items()}
    return spec.build_task(task.loss, task.label_smoothing, **settings)


def spec_of(plan: Plan) -> ModelSpec:
    facts, recipe = plan.dataset.facts, plan.recipe
    return ModelSpec(
        model=recipe.model.name,
        changes=dict(recipe.model.changes),
        input_shape=facts.input_shape,
        task=recipe.task.name,
        num_classes=facts.num_classes,
        target_mean=facts.target_mean,
        target_std=facts.target_std,
        class_names=plan.dataset.class_names,
        preprocessing=plan.dataset.preprocessing,
        views=views_of(recipe),
    )


def views_of(recipe: Recipe) -> Views:
    """Which views of an image are averaged in the end, and in every prediction."""
    kind = recipe.evaluation.test_time_augmentation
    threshold = recipe.evaluation.confidence_threshold
    return Views(views="one" if kind == "none" else kind, sure=threshold)
