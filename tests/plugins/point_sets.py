"""A stranger's package: a modality, a task, a source and a model that thalweg knows nothing of.

A sample is a set of points in the plane, of any number, in a file of JSON lines. The task is an
interval: two numbers that the target lies between nine times in ten.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.data.modality import Modality, Prepared, SourceRow, StoredInputs
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import UNSPLIT, Labels, Samples
from thalweg.errors import DataError
from thalweg.recipes.recipe import BatchRecipe, BudgetRecipe, ModelRecipe, OptimizerRecipe, Recipe
from thalweg.tasks.task import Prediction, Readout, Targets, Task, TaskType


class PointSets(list):
    """float32 [points, 2] of each sample."""


def point_lines(path: Path) -> Samples | None:
    """A source: a line a sample, such as {"points": [[0.5, 1], …], "target": 3.2}."""
    if path.suffix != ".points":
        return None
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    texts = sorted({str(row["target"]) for row in rows})
    codes = np.array([texts.index(str(row["target"])) for row in rows])
    return Samples(
        inputs=PointSets(np.array(row["points"], dtype=np.float32) for row in rows),
        names=[f"line {number}" for number in range(1, 1 + len(rows))],
        labels=Labels(codes, tuple(texts), may_be_numbers=True),
        splits=np.full(len(rows), UNSPLIT, dtype=np.int8),
        label_place="the field 'target'",
    )


@dataclass(frozen=True)
class PointPreprocessing:
    modality: ClassVar[str] = "point-set"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_inputs(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        points = (raw["points"] - torch.tensor(self.mean)) / torch.tensor(self.std)
        return {"points": points * raw["mask"][..., None], "mask": raw["mask"]}

    def to_dict(self) -> dict[str, object]:
        return {"kind": self.modality, "mean": self.mean, "std": self.std}


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    points = np.concatenate([stored.rows[row] for row in train.tolist()])
    mean, std = points.mean(0), points.std(0)
    return Prepared(
        stored.rows, PointPreprocessing(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    )


def pad(samples: Sequence[np.ndarray]) -> dict[str, Tensor]:
    points = torch.zeros(len(samples), max(map(len, samples)), 2)
    mask = torch.zeros(points.shape[:2], dtype=torch.bool)
    for row, sample in enumerate(samples):
        points[row, : len(sample)] = torch.from_numpy(np.asarray(sample))
        mask[row, : len(sample)] = True
    return {"points": points, "mask": mask}


def read_source(preprocessing: PointPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    name = "bytes" if isinstance(source, bytes) else str(source)
    try:
        text = source.decode() if isinstance(source, bytes) else source.read_text()
    except OSError as error:
        raise DataError(f"{name} cannot be read", seen=str(error)) from error
    for number, line in enumerate(text.splitlines(), 1):
        points = np.array(json.loads(line)["points"], dtype=np.float32)
        yield SourceRow(f"{name}, line {number}", points)


def recipe(facts, chosen) -> Recipe:
    return Recipe(
        model=ModelRecipe(name="deep_sets"),
        optimizer=OptimizerRecipe(name="adamw", lr=1e-2),
        batch=BatchRecipe(size=16),
        budget=BudgetRecipe(epochs=10),
    )


POINT_SET = Modality(
    name="point-set",
    noun="point set",
    takes=lambda inputs: isinstance(inputs, PointSets),
    read=lambda samples, options: StoredInputs(
        rows=samples.inputs,
        digests=row_digests(samples.inputs),
        good=np.ones(len(samples.names), dtype=bool),
    ),
    prepare=prepare,
    input_shape=lambda row: row.shape[1:],
    restore=lambda values: PointPreprocessing(mean=tuple(values["mean"]), std=tuple(values["std"])),
    read_source=read_source,
    recipe=recipe,
    collate=pad,
    example=lambda facts, count: pad([np.zeros((7, 2), np.float32)] * count),
    describe=lambda facts: {"Coordinates": "2 for each point"},
)


class DeepSets(nn.Module):
    """Points one by one, their mean, then the set. Zaheer et al. 2017, arXiv:1703.06114."""

    def __init__(self, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.all = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, points: Tensor, mask: Tensor) -> Tensor:
        weight = mask[..., None].to(points.dtype)
        return self.all((self.each(points) * weight).sum(1) / weight.sum(1))


def deep_sets(num_classes, *, input_shape, width: int = 32, dropout: float = 0.1) -> DeepSets:
    return DeepSets(num_classes, width, dropout)


def pinball(outputs: Tensor, targets: Tensor) -> Tensor:
    """The quantile loss of the outputs' two columns. Koenker & Bassett 1978."""
    error, quantiles = targets[:, None] - outputs, torch.tensor([0.05, 0.95])
    return torch.maximum(quantiles * error, (quantiles - 1) * error).mean()


@dataclass(frozen=True)
class Scale:
    mean: float
    std: float

    def decode(self, logits: Tensor) -> Tensor:
        return logits.float() * self.std + self.mean

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return pinball(logits, (targets - self.mean) / self.std)

    def coverage(self, logits: Tensor, targets: Tensor) -> float:
        low, high = self.decode(logits).unbind(1)
        return ((low <= targets) & (targets <= high)).double().mean().item()

    def readout(self, logits: Tensor, targets: Tensor, class_names) -> Readout:
        predicted = [interval(row) for row in self.decode(logits)]
        return Readout(
            [f"{target:.4g}" for target in targets.tolist()], predicted, [nan] * len(targets), ()
        )


def interval(row: Tensor) -> str:
    return f"{row[0]:.4g} to {row[1]:.4g}"


def build(facts, recipe) -> Task:
    scale = Scale(facts.target_mean, facts.target_std)
    return Task(
        name="interval",
        loss_fn=scale.loss,
        outputs=2,
        chance_loss=nan,
        metrics={"coverage": scale.coverage},
        headline="coverage",
        decode=scale.decode,
        predict=lambda row, class_names: Prediction(interval(row), 1.0, {}, nan),
        read=scale.readout,
    )


def targets(labels, place: str) -> Targets | None:
    numbers = [float(text) for text in labels.texts]
    return Targets(task="interval", values=np.array(numbers, dtype=np.float32)[labels.codes])


INTERVAL = TaskType(
    name="interval",
    answers="other",
    targets=targets,
    losses={"pinball": pinball},
    standard_loss="pinball",
    build=build,
)
