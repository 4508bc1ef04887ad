"""What the rungs of a climb stand on: the samples as each of them wants them, and the time left."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.classical.cross_validation import Split, repeated_splits
from thalweg.classical.features import colour_histogram, concatenated, hog, standardised
from thalweg.data.dataset import DataFacts, Dataset
from thalweg.planning.progress import Progress

PIXELS_SIDE = 32  # px: rungs on raw pixels see images no larger: 3,072 numbers
FEATURES_SIDE = 64  # px: edges of the size of a cell are what HOG counts
AT_ONCE = 512  # images brought to another size together
CHOOSING = 10_000  # training samples that settings are chosen on
JUDGED_TRAIN = 2_000  # training samples that a train score is taken of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user fixed; None: chosen inside the training split."""

    k: int | None = None  # neighbours
    penalty: float | None = None  # λ on the mean loss, of ridge and the linear classifiers
    seed: int = 0
    options: Mapping[str, object] | None = None  # recipe keys for the networks


class Climbed(NamedTuple):
    """What a rung found: answers for validation samples, in the targets' terms."""

    predicted: Tensor  # int64 class or float value, for each row of the validation split
    train_score: float = nan
    train_loss: float = nan
    parameters: int = 0
    chosen: str = ""
    run: str = ""
    judged: Tensor | None = None  # bool per validation row; None: all were


@dataclass  # neither frozen nor with slots: views of the samples are made when wanted, and kept
class Ground:
    dataset: Dataset
    path: str
    folder: Path
    wishes: Wishes
    progress: Progress
    deadline: float  # on the monotonic clock
    device: str = "cpu"
    seconds: float = 0.0  # what the rung that is being climbed may take

    @property
    def facts(self) -> DataFacts:
        return self.dataset.facts

    @property
    def classifies(self) -> bool:
        return self.facts.task == "classification"

    def allow(self, share: float) -> None:
        """Give the next rung this share of the time that is left."""
        self.seconds = max(0.0, self.deadline - monotonic()) * share

    def targets(self, split: str) -> Tensor:
        """int64 [n] classes, or float32 [n] values."""
        return torch.from_numpy(self.dataset.targets[self.dataset.indices[split]]).to(self.device)

    def images(self, split: str, side: int) -> Tensor:
        """uint8 [n, channel, y, x], no larger than `side` px: averaged over what falls together."""
        rows = torch.from_numpy(self.dataset.indices[split])
        parts = []
        for some in rows.split(AT_ONCE):
            images = torch.from_numpy(self.dataset.inputs[some.numpy()]).permute(0, 3, 1, 2)
            if images.shape[2] > side:
                images = F.interpolate(images.float(), size=(side, side), mode="area").round()
            parts.append(images.to(torch.uint8).contiguous())
        return torch.cat(parts).to(self.device)

    @cached_property
    def train(self) -> Tensor:
        """One training sample a row: pixels as bytes, or standardised features."""
        return self._vectors("train")

    @cached_property
    def val(self) -> Tensor:
        return self._vectors("val")

    @property
    def unit(self) -> float:
        """What a penalty for inputs of 0…1 is multiplied by, for these: bytes are 255 times as
        large."""
        return 255.0**2 if self.train.dtype == torch.uint8 else 1.0

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """HOG, and for coloured images a hue histogram, standardised: train and val."""
        cell = (
            8 if min(self.facts.input_shape[1:]) >= PIXELS_SIDE else self.facts.input_shape[1] // 4
        )
        make = [lambda images: hog(images, cell=max(1, cell), normalisation="none")]
        if self.facts.input_shape[0] == 3:
            make.append(colour_histogram)
        feature = concatenated(*make)
        train, val = (feature(self.images(s, FEATURES_SIDE)) for s in ("train", "val"))
        scale = standardised(train)
        return scale(train), scale(val)

    @cached_property
    def choosing(self) -> Split:
        """Training rows to fit and to judge settings on: inside the training split, always."""
        targets = self.targets("train").cpu()
        some = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        some = some[:CHOOSING].sort().values
        ((fit, judge),) = repeated_splits(targets[some], repeats=1, val_fraction=0.2)
        return some[fit], some[judge]

    def score(self, predicted: Tensor, targets: Tensor) -> float:
        """Accuracy or R²."""
        if self.classifies:
            return (predicted == targets).double().mean().item()
        spread = (targets - targets.double().mean()).square().sum()
        return (1 - (predicted.double() - targets).square().sum() / spread).item()

    def _vectors(self, split: str) -> Tensor:
        if self.facts.kind == "image":
            return self.images(split, PIXELS_SIDE).flatten(1)
        rows = torch.from_numpy(self.dataset.inputs[self.dataset.indices[split]])
        return self.dataset.preprocessing.to_inputs(rows).to(self.device)
