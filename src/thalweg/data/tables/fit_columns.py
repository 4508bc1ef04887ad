"""Fit what the training rows alone decide: a category's entries, and the missing-value columns."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thalweg.data.tables.column import OTHER, Column

MOST_ENTRIES = 1_000  # of a category; rarer texts share the entry of unseen ones
LEAST_ROWS = 2  # training rows that an entry needs: one row teaches nothing of others
MOST_FOR_TREES = 254  # entries that HistGradientBoosting takes, beside the unseen ones
LEAST_MISSING = 5  # training rows without a value, from which on an input says so


class FittedColumns(NamedTuple):
    """Rows whose categories are numbered by the entries of the columns."""

    rows: np.ndarray  # float32 [n, number]
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()


def fit_categories(rows: np.ndarray, columns: Sequence[Column], train: np.ndarray) -> FittedColumns:
    """Number the texts by their frequency in training; what it has not met is `OTHER`."""
    rows, fitted, notes = rows.copy(), [], []
    for column, place in zip(columns, number_places(columns), strict=True):
        if column.kind == "category":
            order = _entries(rows[train, place], len(column.texts))
            numbers = np.zeros(len(column.texts) + 1, dtype=np.float32)
            numbers[order] = np.arange(1, len(order) + 1)
            rows[:, place] = numbers[rows[:, place].astype(np.int64)]
            rare = int(np.count_nonzero(rows[train, place] == OTHER))
            fitted.append(column.with_texts([column.texts[entry - 1] for entry in order]))
            if rare:
                notes.append(
                    f"{column.name!r} has {len(order):,} categories; {rare:,} training rows of "
                    "rarer ones share the entry of unseen ones"
                )
        else:
            fitted.append(column)
    return FittedColumns(rows, tuple(fitted), tuple(notes))


def number_places(columns: Sequence[Column]) -> list[int]:
    """The place of each column's first number in a row."""
    places = np.cumsum([0, *(len(column.features) for column in columns)])
    return [int(place) for place in places[:-1]]


def sizes_of(columns: Sequence[Column]) -> dict[int, int]:
    """The number of entries of each category, by the place of its number."""
    places = number_places(columns)
    pairs = zip(columns, places, strict=True)
    return {place: len(column.texts) for column, place in pairs if column.kind == "category"}


def categorical_places(columns: Sequence[Column]) -> list[int]:
    """Places of the numbers that are categories with few enough entries for boosted trees."""
    return [place for place, size in sizes_of(columns).items() if size <= MOST_FOR_TREES]


def missing_places(rows: np.ndarray, train: np.ndarray, categories: Sequence[int]) -> list[int]:
    """Places of the numbers that training lacks often enough to learn from their absence."""
    counts = np.isnan(rows[train]).sum(axis=0)
    often = (counts >= LEAST_MISSING) & (counts < len(train))
    return [int(place) for place in np.flatnonzero(often) if place not in categories]


def _entries(codes: np.ndarray, count: int) -> np.ndarray:
    """The codes that become entries, most frequent first. A missing cell's code is one of them."""
    counts = np.bincount(codes.astype(np.int64), minlength=count + 1)[1:]
    order = np.argsort(-counts, kind="stable")[:MOST_ENTRIES]
    return order[counts[order] >= LEAST_ROWS] + 1
