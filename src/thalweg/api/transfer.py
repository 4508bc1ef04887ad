"""Transfer: whether to, from which network, and the head that is fitted to its features."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.api.progress import Progress
from thalweg.classical.linear_head import Candidate, choose_classifier, choose_regressor
from thalweg.data import Batch, Dataset
from thalweg.data.probe import probe
from thalweg.data.samples import Files
from thalweg.data.sources import samples_at
from thalweg.errors import UsageError
from thalweg.models.pretrained.head import Features, fill_head, freeze, head_of, last_third
from thalweg.models.pretrained.source import (
    PACKAGE,
    PACKAGED_MODEL,
    TIMM,
    check_weights,
    format_of,
    is_installed,
    load_pretrained,
)
from thalweg.models.pretrained.timm_model import PREFIX
from thalweg.recipes.recipe import Recipe
from thalweg.recipes.transfer import FEW_SAMPLES, PHOTOGRAPH
from thalweg.tasks import Task
from thalweg.training.evaluate import Evaluation, evaluate
from thalweg.training.features import VIEWS, Extractor, weights_digest

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
    if not is_installed():
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
        "data.image_size": changes.get("data.image_size") or format_of(model).image_size,
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
    wanted = format_of(recipe["model.name"])
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
    name, head = head_of(model, outputs=outputs)
    trained = {f"{name}.{weight}" for weight, _ in head.named_parameters()}
    freeze(model, trained | last_third(model) if method == "last" else trained)


@dataclass(slots=True, kw_only=True)
class Backbone:
    """The pretrained part of a run's network, and what it made of the images."""

    recipe: Recipe
    dataset: Dataset
    model: nn.Module
    task: Task
    progress: Progress
    check: Callable[[], None] = lambda: None  # may raise: whether to go on
    _extractor: Extractor | None = field(default=None)

    def load(self) -> None:
        """Put the pretrained weights into the network."""
        load_pretrained(
            self.model,
            name=self.recipe.model.name,
            weights=self.recipe.transfer.weights,
            outputs=self.task.outputs,
        )

    def fit_head(self) -> list[Candidate]:
        """Fit heads to the features, give the network the best; all of them, that one first."""
        views = VIEWS[: max(1, self.recipe.transfer.views)]
        train, targets = self._rows("train"), self._targets("train")
        inputs = self._features().features(train, views)
        val = self._features().features(self._rows("val"))
        pairs = (inputs, torch.cat([targets] * len(views))), (val, self._targets("val"))
        found = self._candidates(*pairs)
        fill_head(self.head, found[0].map.weight, found[0].map.bias)
        return found

    def evaluate(self, split: str) -> Evaluation:
        """What `training.evaluate` finds, from the features: the backbone need not run again."""
        return evaluate(self.head, self.batches(split), self.task)

    @property
    def is_fitted_only(self) -> bool:
        """Whether nothing is trained by gradient: the head is then the model that is watched."""
        return self.recipe.transfer.method == "probe"

    def batches(self, split: str) -> list[Batch]:
        """Features and targets of the split, in order: the data of the head."""
        rows = self._rows(split)
        features = self._features().features(rows)
        targets = torch.from_numpy(self.dataset.targets[rows])
        size = self.recipe.batch.size
        pairs = zip(features.split(size), targets.split(size), strict=True)
        device = torch.device(self.recipe.device)
        return [Batch(*pair).to(device) for pair in pairs]

    @property
    def head(self) -> nn.Linear:
        """The last layer, which is fitted."""
        return head_of(self.model, outputs=self.task.outputs)[1]

    def _candidates(
        self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]
    ) -> list[Candidate]:
        if self.task.name == "classification":
            return choose_classifier(train, val, num_classes=self.task.outputs)
        return choose_regressor(train, val)

    def _targets(self, split: str) -> Tensor:
        """Classes; or values standardised, as the loss compares them, [n, 1]."""
        targets = torch.from_numpy(self.dataset.targets[self._rows(split)])
        if self.task.name == "classification":
            return targets
        facts = self.dataset.facts
        return ((targets - facts.target_mean) / facts.target_std)[:, None].float()

    def _rows(self, split: str) -> np.ndarray:
        return self.dataset.indices[split]

    def _features(self) -> Extractor:
        """What computes features, made once the weights are those that they are of."""
        name, head = head_of(self.model, outputs=self.task.outputs)
        about = self.recipe.model.name, self.dataset.preprocessing
        key = weights_digest(self.model, about=about, without=f"{name}.")
        if self._extractor is None or self._extractor.key != key:
            self._extractor = Extractor(
                Features(self.model, head).eval(),
                dim=head.in_features,
                dataset=self.dataset,
                device=torch.device(self.recipe.device),
                key=key,
                progress=self._note,
            )
        return self._extractor

    def _note(self, done: int, total: int) -> None:
        self.check()
        self.progress.phase, self.progress.samples = "features", (done, total)


@dataclass(frozen=True, slots=True)
class FeatureBatches:
    """The data of a head, for its watcher: read when it asks, by when the features are there."""

    backbone: Backbone
    split: str

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; the training split in random order, as a loop would see it."""
        batches = self.backbone.batches(self.split)
        if self.split != "train":
            yield from batches
            return
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        size = len(batches[0].targets)
        for picked in order.to(targets.device).split(size):
            yield Batch(inputs[picked], targets[picked])
