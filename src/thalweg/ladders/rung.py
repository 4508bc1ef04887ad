"""The interface of a rung: what runs it, what it returns, and the data that it does not fit."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

from torch import Tensor

from thalweg.data import DataFacts
from thalweg.data.modalities import MODALITIES
from thalweg.ladders.ladder_data import LadderData
from thalweg.record.ladder import STRONG, Kind
from thalweg.tasks import TASKS


class RungResult(NamedTuple):
    """A fitted model's predictions for the validation split, in the units of the targets."""

    predictions: Tensor  # int64 class or float value, for each row of the validation split
    train_score: float = nan
    train_loss: float = nan
    parameters: int = 0
    chosen: str = ""  # settings, and how they were chosen
    run: str = ""  # name of the run's folder in the ladder's
    scored: Tensor | None = None  # bool per validation row; None: all rows are scored


@dataclass(frozen=True, slots=True, kw_only=True)
class RungMaker:
    """A line of the table of rungs."""

    name: str
    title: str
    kind: Kind
    run: Callable[[LadderData], RungResult]  # raises TooLongError, MissingPackageError, DataError
    unfit_reason: Callable[[DataFacts], str] = lambda facts: ""  # "": the rung fits the data
    share: float = 0.5  # of the time left that it may take; the last rung may take all

    @property
    def is_strong(self) -> bool:
        """Return whether it may well be the best, so that others must leave time for it."""
        return self.kind in STRONG


def images_only(facts: DataFacts) -> str:
    return "" if MODALITIES[facts.modality].layout == "pixels" else "needs images"


def tables_only(facts: DataFacts) -> str:
    return "" if MODALITIES[facts.modality].layout == "row" else "needs a table"


def equal_lengths_only(facts: DataFacts) -> str:
    layout = MODALITIES[facts.modality].layout
    return "" if layout in ("pixels", "row") else "needs samples of one length"


def classes_only(facts: DataFacts) -> str:
    has_classes = TASKS[facts.task].answers == "classes"
    return equal_lengths_only(facts) or ("" if has_classes else "needs classes")


def classified_images_only(facts: DataFacts) -> str:
    return images_only(facts) or classes_only(facts)
