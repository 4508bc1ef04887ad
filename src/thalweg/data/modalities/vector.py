"""Rows of numbers: from tables and arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from thalweg.data.images.decode import POLICY_VERSION
from thalweg.data.in_memory import as_array
from thalweg.data.modality import Modality, Prepared, ReadOptions, SourceRow, StoredInputs
from thalweg.data.preprocessing import affine, recorded_moments, recorded_text
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import Samples
from thalweg.data.statistics import vector_statistics
from thalweg.data.table_rows import named_vectors, ordered_vectors, table_rows
from thalweg.data.tables.column import Column, restore_column
from thalweg.data.tables.determining_columns import determining_notes
from thalweg.data.tables.fit_columns import fit_categories, missing_places, sizes_of
from thalweg.data.tables.frames import frame_cells, is_frame, record_cells
from thalweg.errors import DataError, UsageError
from thalweg.recipes.vectors import vectors
from thalweg.wording import count, some

NAME = "vector"


class _Layout(NamedTuple):
    """The numbers of a row by what becomes of them."""

    numbers: list[int]
    indicators: list[int]  # places among `numbers` of those whose absence is an input
    categories: list[tuple[int, int]]  # place and number of entries, the smallest first


@lru_cache(maxsize=16)
def _layout(length: int, columns: tuple[Column, ...], indicators: tuple[int, ...]) -> _Layout:
    sizes = sizes_of(columns)
    numbers = [place for place in range(length) if place not in sizes]
    return _Layout(
        numbers,
        [numbers.index(place) for place in indicators],
        sorted(sizes.items(), key=lambda pair: pair[1]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VectorPreprocessing:
    """The training split's statistics of each number, and the columns that they were made of."""

    modality: ClassVar[str] = NAME
    mean: tuple[float, ...]  # in the number's unit
    std: tuple[float, ...]
    features: tuple[str, ...] = ()  # names of the numbers, in order; () where they have none
    columns: tuple[Column, ...] = ()  # of a table; () where all are of plain numbers
    indicators: tuple[int, ...] = ()  # places of the numbers whose absence is an input

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def to_inputs(self, raw: Shaped[Tensor, "n d"]) -> Float32[Tensor, "n inputs"]:
        """(value − mean) / std, 0 where it is missing; then indicators; then one-hot categories."""
        scale, bias = affine(self.mean, self.std, device=str(raw.device))
        raw = raw.float()
        scaled = torch.addcmul(bias, raw, scale)
        missing = ~raw.isfinite()
        scaled = scaled.masked_fill(missing, 0)
        if not (self.columns or self.indicators):
            return scaled
        layout = self.layout
        numbers, missing = scaled[:, layout.numbers], missing[:, layout.numbers]
        parts = [numbers, missing[:, layout.indicators].float()]
        for place, size in layout.categories:
            entries = torch.arange(1, size + 1, device=raw.device)
            parts.append((raw[:, place, None] == entries).float())
        return torch.cat(parts, dim=1)

    @property
    def layout(self) -> _Layout:
        """The numbers of a row by what becomes of them."""
        return _layout(len(self.mean), self.columns, self.indicators)

    @property
    def num_inputs(self) -> int:
        """The inputs that are made of a row."""
        numbers, indicators, categories = self.layout
        return len(numbers) + len(indicators) + sum(size for _, size in categories)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON, and the zeros that recorded fingerprints contain."""
        values = {
            "kind": NAME,
            "image_size": 0,
            "channels": 0,
            "mean": self.mean,
            "std": self.std,
            "policy_version": POLICY_VERSION,
            "features": self.features,
        }
        if self.columns:  # older models and fingerprints have none
            values["columns"] = [column.to_dict() for column in self.columns]
        if self.indicators:
            values["indicators"] = self.indicators
        return values


def restore(values: Mapping[str, Any]) -> VectorPreprocessing:
    """The inverse of `VectorPreprocessing.to_dict`. Raises ValueError where parts do not fit."""
    mean, std = recorded_moments(values)
    preprocessing = VectorPreprocessing(
        mean=mean,
        std=std,
        features=tuple(values.get("features", ())),
        columns=tuple(restore_column(column) for column in values.get("columns", ())),
        indicators=tuple(values.get("indicators", ())),
    )
    numbers = sum(len(column.features) for column in preprocessing.columns)
    if preprocessing.columns and numbers != len(preprocessing.mean):
        raise ValueError(f"{numbers} numbers, {len(preprocessing.mean)} means")
    _ = preprocessing.num_inputs  # ValueError for an indicator of no number
    return preprocessing


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The rows as they are, with a digest of each."""
    assert isinstance(samples.inputs, np.ndarray)
    digests = row_digests(samples.inputs)
    good = np.ones(len(digests), dtype=bool)
    return StoredInputs(rows=samples.inputs, digests=digests, good=good, columns=samples.columns)


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Fit categories, means and deviations to the training rows.

    Raises: DataError where nothing of a row is left as an input.
    """
    prepared = fit_columns(stored, train, features)
    if not prepared.preprocessing.num_inputs:
        raise DataError(
            "no column has two values to tell samples apart by",
            seen=f"{some([repr(name) for name in features] or ['no column'])} in "
            f"{len(stored.rows[train]):,} training rows; a category counts from its second row",
            fix="give columns that vary between samples, or more rows to train on",
        )
    return prepared


def _is_plain(column: Column) -> bool:
    return column.kind == "number" and not column.form and not column.origin


def fit_columns(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Fit categories, means and deviations of a table, or of columns beside texts."""
    fitted = fit_categories(stored.rows, stored.columns, train)
    places = sizes_of(fitted.columns)
    mean, std, notes = vector_statistics(fitted.rows, train)
    is_number = [place not in places for place in range(len(mean))]
    indicators = missing_places(fitted.rows, train, categories=list(places))
    if indicators:
        names = some([repr(features[place] if features else place) for place in indicators])
        notes += (f"an input says where a value is missing: {names}",)
    preprocessing = VectorPreprocessing(
        mean=tuple(m if own else 0.0 for m, own in zip(mean, is_number, strict=True)),
        std=tuple(s if own else 1.0 for s, own in zip(std, is_number, strict=True)),
        features=features,
        columns=() if all(map(_is_plain, fitted.columns)) else fitted.columns,
        indicators=tuple(indicators),
    )
    return Prepared(fitted.rows, preprocessing, (*fitted.notes, *notes))


def facts(prepared: Prepared) -> Mapping[str, Any]:
    """The number of inputs, and which of them are measurements and categories."""
    layout = prepared.preprocessing.layout
    return {
        "input_shape": (prepared.preprocessing.num_inputs,),
        "num_numbers": len(layout.numbers),
        "categories": tuple(size for _, size in layout.categories),
    }


def target_notes(prepared: Prepared, targets: np.ndarray, train: np.ndarray) -> list[str]:
    """A note for each column that determines the target alone."""
    names = prepared.preprocessing.features
    return determining_notes(prepared.rows, targets, train=train, names=names)


def read_source(preprocessing: VectorPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """A row for each row of a CSV. Raises DataError for what is no table with the features."""
    if isinstance(source, bytes):
        raise UsageError(
            "the model takes tables, not bytes", seen=f"{len(source)} bytes", fix="name a CSV"
        )
    columns = preprocessing.columns or [Column(name=name) for name in preprocessing.features]
    table = table_rows(source, columns=columns, count=len(preprocessing.mean))
    for index, (name, vector) in enumerate(zip(table.names, table.vectors, strict=True)):
        yield SourceRow(f"{source}, {name}", vector, table.reasons.get(index, ""))


def read_object(preprocessing: VectorPreprocessing, value: Any) -> Iterator[SourceRow]:
    """A row for each row of a data frame, an array, or a list of dictionaries or rows.

    Columns with names are matched by name, others by their order.
    """
    columns = preprocessing.columns or [Column(name=name) for name in preprocessing.features]
    if is_frame(value):
        vectors = named_vectors(frame_cells(value), columns, count=len(preprocessing.mean))
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        vectors = named_vectors(record_cells(value), columns, count=len(preprocessing.mean))
    else:
        rows = np.atleast_2d(as_array(value, name="the rows"))
        columns = columns or [Column(name=str(place)) for place in range(len(preprocessing.mean))]
        vectors = ordered_vectors(rows, columns)
    return (SourceRow(f"row {index}", vector) for index, vector in enumerate(vectors))


VECTOR = Modality(
    name=NAME,
    noun="row",
    takes=lambda inputs: isinstance(inputs, np.ndarray) and inputs.ndim == 2,
    read=read,
    prepare=prepare,
    input_shape=np.shape,
    restore=restore,
    read_source=read_source,
    read_object=read_object,
    recipe=vectors,
    describe=lambda facts: {"Features": count(facts.input_shape[0])},
    layout="row",
    facts=facts,
    target_notes=target_notes,
    augment_keys=frozenset({"mixup"}),
)
