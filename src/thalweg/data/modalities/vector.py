"""Rows of numbers: from tables and arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from thalweg.data.images.decode import POLICY_VERSION
from thalweg.data.modality import Modality, Prepared, ReadOptions, SourceRow, StoredInputs
from thalweg.data.preprocessing import affine, recorded_text
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import Samples
from thalweg.data.statistics import vector_statistics
from thalweg.data.table_rows import table_rows
from thalweg.errors import UsageError
from thalweg.recipes.vectors import vectors
from thalweg.wording import count

NAME = "vector"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VectorPreprocessing:
    """The training split's statistics of each number, and the numbers' names."""

    modality: ClassVar[str] = NAME
    mean: tuple[float, ...]  # in the number's unit
    std: tuple[float, ...]
    features: tuple[str, ...] = ()  # names of the numbers, in order; () where they have none

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def to_inputs(self, raw: Shaped[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
        """(value − mean) / std."""
        scale, bias = affine(self.mean, self.std, device=str(raw.device))
        return torch.addcmul(bias, raw.float(), scale)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON, and the zeros that recorded fingerprints contain."""
        return {
            "kind": NAME,
            "image_size": 0,
            "channels": 0,
            "mean": self.mean,
            "std": self.std,
            "policy_version": POLICY_VERSION,
            "features": self.features,
        }


def restore(values: Mapping[str, Any]) -> VectorPreprocessing:
    """The inverse of `VectorPreprocessing.to_dict`."""
    numbers = {name: tuple(values[name]) for name in ("mean", "std")}
    return VectorPreprocessing(**numbers, features=tuple(values.get("features", ())))


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The rows as they are, with a digest of each."""
    assert isinstance(samples.inputs, np.ndarray)
    digests = row_digests(samples.inputs)
    return StoredInputs(
        rows=samples.inputs, digests=digests, good=np.ones(len(digests), dtype=bool)
    )


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Fill missing numbers with the training mean."""
    filled, mean, std, notes = vector_statistics(stored.rows, train)
    return Prepared(filled, VectorPreprocessing(mean=mean, std=std, features=features), notes)


def read_source(preprocessing: VectorPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """A row for each row of a CSV. Raises DataError for what is no table with the features."""
    if isinstance(source, bytes):
        raise UsageError(
            "the model takes tables, not bytes", seen=f"{len(source)} bytes", fix="name a CSV"
        )
    table = table_rows(source, features=preprocessing.features, means=preprocessing.mean)
    for index, (name, vector) in enumerate(zip(table.names, table.vectors, strict=True)):
        yield SourceRow(f"{source}, {name}", vector, table.reasons.get(index, ""))


VECTOR = Modality(
    name=NAME,
    noun="row",
    takes=lambda inputs: isinstance(inputs, np.ndarray) and inputs.ndim == 2,
    read=read,
    prepare=prepare,
    input_shape=np.shape,
    restore=restore,
    read_source=read_source,
    recipe=vectors,
    describe=lambda facts: {"Features": count(facts.input_shape[0])},
    layout="row",
    augment_keys=frozenset({"mixup"}),
)
