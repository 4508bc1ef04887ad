"""The frozen part of a pretrained network during a run, and the head fitted to its features."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.classical.linear_head import (
    Candidate,
    choose_classifier,
    choose_label_heads,
    choose_regressor,
)
from thalweg.data import Batch
from thalweg.models.pretrained.head import Features, fill_head, named_head
from thalweg.models.pretrained.weight_sources import load_pretrained
from thalweg.planning.plan import Plan
from thalweg.planning.progress import Progress
from thalweg.tasks import TASKS
from thalweg.tasks.multi_label import label_log_odds
from thalweg.training.evaluate import Evaluation, evaluate
from thalweg.training.features import VIEWS, Extractor, weights_digest
from thalweg.training.interrupt import Interrupt


class StoppedError(Exception):
    """A signal came while features were computed; those that are computed stay in the cache."""


@dataclass(slots=True, kw_only=True)
class Backbone:
    """The pretrained part of a run's network, with the features that it computes of the images."""

    plan: Plan
    model: nn.Module
    progress: Progress
    interrupt: Interrupt
    way: str = ""  # by which the features are computed: see `frozen_forward`; "": not chosen yet
    _is_fitting: bool = False
    _extractor: Extractor | None = field(default=None)

    def load(self) -> None:
        """Put the pretrained weights into the network."""
        load_pretrained(
            self.model,
            name=self.plan.recipe.model.name,
            weights=self.plan.recipe.transfer.weights,
            outputs=self.plan.task.outputs,
        )

    def fit_head(self) -> list[Candidate]:
        """Fit heads to the features and give the network the best; return all, the best first.

        Raises: StoppedError after a signal.
        """
        self._is_fitting = True
        views = VIEWS[: max(1, self.plan.recipe.transfer.copies_per_image)]
        train, targets = self._rows("train"), self._targets("train")
        inputs = self._features().features(train, views)
        val = self._features().features(self._rows("val"))
        pairs = (inputs, torch.cat([targets] * len(views))), (val, self._targets("val"))
        candidates = self._candidates(*pairs)
        self._is_fitting = False
        self.way = self._features().way
        bias = candidates[0].map.bias
        if self._has_labels:  # the task adds each label's log-odds to the head's outputs
            bias = bias - bias.new_tensor(label_log_odds(self.plan.dataset.facts.label_rates))
        fill_head(self.head, candidates[0].map.weight, bias)
        return candidates

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate the head on the cached features, without running the backbone again."""
        return evaluate(self.head, self.batches(split), self.plan.task)

    @property
    def is_head_only(self) -> bool:
        """True if only a head is fitted and no layer trained; the head is then watched."""
        return self.plan.recipe.transfer.method == "probe"

    def batches(self, split: str) -> list[Batch]:
        """Features and targets of the split, in order: the data of the head."""
        rows = self._rows(split)
        features = self._features().features(rows)
        targets = torch.from_numpy(self.plan.dataset.targets[rows])
        size = self.plan.recipe.batch.size
        pairs = zip(features.split(size), targets.split(size), strict=True)
        device = torch.device(self.plan.recipe.device)
        return [Batch(*pair).to(device) for pair in pairs]

    @property
    def head(self) -> nn.Linear:
        """The last layer, which is fitted."""
        return named_head(self.model, outputs=self.plan.task.outputs)[1]

    def _candidates(
        self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]
    ) -> list[Candidate]:
        if self.plan.task.num_classes:
            return choose_classifier(train, val, num_classes=self.plan.task.num_classes)
        if self._has_labels:
            return choose_label_heads(train, val)
        return choose_regressor(train, val)

    @property
    def _has_labels(self) -> bool:
        return TASKS[self.plan.task.name].answers == "labels"

    def _targets(self, split: str) -> Tensor:
        """Classes; labels; or values standardised, as the loss compares them, [n, 1]."""
        targets = torch.from_numpy(self.plan.dataset.targets[self._rows(split)])
        if self.plan.task.num_classes or self._has_labels:
            return targets
        facts = self.plan.dataset.facts
        return ((targets - facts.target_mean) / facts.target_std)[:, None].float()

    def _rows(self, split: str) -> np.ndarray:
        return self.plan.dataset.indices[split]

    def _features(self) -> Extractor:
        """The extractor of features, created once the pretrained weights are loaded."""
        name, head = named_head(self.model, outputs=self.plan.task.outputs)
        about = self.plan.recipe.model.name, self.plan.dataset.preprocessing
        key = weights_digest(self.model, about=about, without=f"{name}.")
        if self._extractor is None or self._extractor.key != key:
            self._extractor = Extractor(
                Features(self.model, head).eval(),
                dim=head.in_features,
                dataset=self.plan.dataset,
                device=torch.device(self.plan.recipe.device),
                key=key,
                progress=self._show,
                way=self.way,
            )
        return self._extractor

    def _show(self, done: int, total: int) -> None:
        if self._is_fitting and self.interrupt.signal:
            raise StoppedError
        self.progress.phase, self.progress.samples = "features", (done, total)


@dataclass(frozen=True, slots=True)
class FeatureBatches:
    """The features and targets of a split, for the watcher of a head; read when it iterates."""

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
