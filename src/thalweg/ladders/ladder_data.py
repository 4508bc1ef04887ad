"""The samples in the form that each rung of the ladder takes, its options, and the time left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from time import monotonic

import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.classical.cross_validation import Split, repeated_splits
from thalweg.classical.features import colour_histogram, concatenation, hog, standardisation
from thalweg.data import DataFacts, Dataset
from thalweg.errors import TooLongError
from thalweg.planning.progress import Progress

PIXELS_SIDE = 32  # px: rungs on raw pixels see images no larger: 3,072 numbers
FEATURES_SIDE = 64  # px: edges of the size of a cell are what HOG counts
RESIZE_BATCH = 512  # images resized together
TUNING_SAMPLES = 10_000  # training samples that settings are chosen on
TRAIN_SCORE_SAMPLES = 2_000  # training samples that the train score is measured on


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderOptions:
    """Settings that the user fixed; None: chosen inside the training split."""

    k: int | None = None  # neighbours
    penalty: float | None = None  # λ on the mean loss, of ridge and the linear classifiers
    seed: int = 0
    edits: Mapping[str, object] | None = None  # recipe keys for the networks


@dataclass  # neither frozen nor with slots: inputs and features are computed when first read
class LadderData:
    """One data set for all rungs of a ladder."""

    dataset: Dataset
    path: str
    folder: Path
    options: LadderOptions
    progress: Progress
    deadline: float  # on the monotonic clock
    device: str = "cpu"
    time_limit: float = inf  # s: of the rung that runs
    rung_deadline: float = inf  # on the monotonic clock

    @property
    def facts(self) -> DataFacts:
        return self.dataset.facts

    @property
    def is_classification(self) -> bool:
        return self.facts.has_one_class

    def limit_time(self, share: float) -> None:
        """Give the next rung this share of the time that is left."""
        self.time_limit = max(0.0, self.deadline - monotonic()) * share
        self.rung_deadline = monotonic() + self.time_limit

    def check_seconds(self, seconds: float) -> None:
        """Raise TooLongError where so many more seconds are not left. For what has no loop."""
        if monotonic() + seconds > self.rung_deadline:
            raise TooLongError(seconds)

    def check_time(self) -> None:
        """Raise TooLongError once the rung has used its time. For loops of a rung to call."""
        if monotonic() > self.rung_deadline:
            raise TooLongError(self.time_limit, is_bound=True)

    def targets(self, split: str) -> Tensor:
        """int64 [n] classes, or float32 [n] values."""
        return torch.from_numpy(self.dataset.targets[self.dataset.indices[split]]).to(self.device)

    def images(self, split: str, side: int) -> Tensor:
        """uint8 [n, channel, y, x]; images larger than `side` px are resized by area averages."""
        batches = []
        for rows in torch.from_numpy(self.dataset.indices[split]).split(RESIZE_BATCH):
            self.check_time()
            images = torch.from_numpy(self.dataset.inputs[rows.numpy()]).permute(0, 3, 1, 2)
            if images.shape[2] > side:
                images = F.interpolate(images.float(), size=(side, side), mode="area").round()
            batches.append(images.to(torch.uint8).contiguous())
        return torch.cat(batches).to(self.device)

    def extract(self, extractor: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """One row of features an image, with a look at the clock now and then."""
        rows = []
        for batch in images.split(RESIZE_BATCH):
            self.check_time()
            rows.append(extractor(batch))
        return torch.cat(rows)

    @cached_property
    def train_inputs(self) -> Tensor:
        """One training sample a row: pixels as bytes, or standardised features."""
        return self._vectors("train")

    @cached_property
    def val_inputs(self) -> Tensor:
        """One validation sample a row, as in `train_inputs`."""
        return self._vectors("val")

    @property
    def penalty_scale(self) -> float:
        """Factor from a penalty for inputs of 0…1 to one for these: bytes are 255 times larger."""
        return 255.0**2 if self.train_inputs.dtype == torch.uint8 else 1.0

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """HOG, and for coloured images a hue histogram, standardised: train and val."""
        cell = (
            8 if min(self.facts.input_shape[1:]) >= PIXELS_SIDE else self.facts.input_shape[1] // 4
        )
        extractors = [lambda images: hog(images, cell=max(1, cell), normalisation="none")]
        if self.facts.input_shape[0] == 3:
            extractors.append(colour_histogram)
        extract = concatenation(*extractors)
        train, val = (
            self.extract(extract, self.images(s, FEATURES_SIDE)) for s in ("train", "val")
        )
        scale = standardisation(train)
        return scale(train), scale(val)

    @cached_property
    def tuning_split(self) -> Split:
        """Rows to fit and rows to score settings on, both from the training split."""
        targets = self.targets("train").cpu()
        sample = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        sample = sample[:TUNING_SAMPLES].sort().values
        ((train, val),) = repeated_splits(targets[sample], repeats=1, val_fraction=0.2)
        return sample[train], sample[val]

    def score(self, predictions: Tensor, targets: Tensor) -> float:
        """Accuracy or R²."""
        if self.is_classification:
            return (predictions == targets).double().mean().item()
        spread = (targets - targets.double().mean()).square().sum()
        return (1 - (predictions.double() - targets).square().sum() / spread).item()

    def _vectors(self, split: str) -> Tensor:
        if self.dataset.modality.layout == "pixels":
            return self.images(split, PIXELS_SIDE).flatten(1)
        rows = torch.from_numpy(self.dataset.inputs[self.dataset.indices[split]])
        return self.dataset.preprocessing.to_inputs(rows).to(self.device)
