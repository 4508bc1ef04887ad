"""A data set that is ready to be trained on, and the facts that a recipe chooses from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thalweg.data.images.background_decoding import BackgroundDecoding
from thalweg.data.preprocessing import Preprocessing
from thalweg.data.samples import Quarantined

Kind = Literal["image", "vector"]
TaskName = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """The shape and amount of the data."""

    kind: Kind
    task: TaskName
    input_shape: tuple[int, ...]  # (channels, height, width) at the training size, or (features,)
    num_classes: int  # 1 for regression
    counts: Mapping[str, int]  # split -> samples
    original_size: tuple[int, int]  # median (height, width) of the files; (0, 0) for vectors
    target_mean: float  # of the training split; 0 and 1 for classification
    target_std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples as arrays, split, with everything that was noticed on the way.

    Rows that no split in `indices` names are quarantined; their inputs mean nothing.
    """

    inputs: np.ndarray  # uint8 [n, h, w, c], memory-mapped, for images; float32 [n, d] for vectors
    targets: np.ndarray  # int64 [n], the class; or float32 [n], the value in the target's unit
    names: Sequence[str]  # relative path, or "row 17"; printable
    indices: Mapping[str, np.ndarray]  # "train", "val", "test" -> int64 rows
    class_names: tuple[str, ...]  # () for regression
    preprocessing: Preprocessing
    facts: DataFacts
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]  # what was chosen, skipped, merged or found twice
    decoding: BackgroundDecoding | None = None  # filling other rows of `inputs`
    fingerprint: str  # sha256 of contents, targets, splits, size and policy
