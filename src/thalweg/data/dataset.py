"""A data set that is ready to be trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.data.images.background_decoding import BackgroundDecoding
from thalweg.data.modalities import MODALITIES
from thalweg.data.modality import Modality
from thalweg.data.samples import Quarantined
from thalweg.recipes.facts import DataFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples as arrays, split, with notes on everything noticed while they were read.

    Rows that no split in `indices` names are quarantined; their inputs mean nothing.
    """

    inputs: Any  # a row a sample: an array, memory-mapped for images, or arrays of several lengths
    # int64 [n], the class; float32 [n, label], 1 where it holds; or values in the target's unit
    targets: np.ndarray
    names: Sequence[str]  # relative path, or "row 17"; printable
    indices: Mapping[str, np.ndarray]  # "train", "val", "test" -> int64 rows
    class_names: tuple[str, ...]  # () where the targets are no classes
    preprocessing: Any  # the modality's
    facts: DataFacts
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]  # choices, skipped files, merged classes, copies, …
    near_copied: float | None = None  # share of `val` that nearly is in `train`; None: not known
    decoding: BackgroundDecoding | None = (
        None  # at work on rows of `inputs` that are not filled yet
    )
    fingerprint: str  # sha256 of contents, targets, splits, size and policy

    @property
    def modality(self) -> Modality:
        """The modality of the inputs."""
        return MODALITIES[self.facts.modality]
