"""Sources, one file a layout of data: each is a function `(path) -> Samples | None`."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from thalweg.data.samples import Samples
from thalweg.data.sources.array_file import array_file
from thalweg.data.sources.builtin_digits import builtin_digits
from thalweg.data.sources.class_folders import class_folders
from thalweg.data.sources.csv_manifest import csv_manifest
from thalweg.data.sources.csv_table import csv_table
from thalweg.errors import DataError
from thalweg.registry import Registry

Source = Callable[[Path], Samples | None]

# Tried in this order; the first that recognises the layout reads it.
SOURCES: Registry[Source] = Registry(
    "source",
    (
        builtin_digits,
        array_file,
        csv_manifest,
        csv_table,
        class_folders,
    ),
)
LAYOUTS = (
    "a folder with a folder per class, a CSV of paths and labels or of numbers, an .npz or .npy "
    "file, or the word digits"
)


def samples_at(path: Path, *, target: str = "") -> Samples:
    """The samples at the path, from the first source that recognises the layout, else DataError.

    `target` is the column of a table to predict; "": the column with a usual name, else the last.
    """
    try:
        for source in _sources_for(target):
            samples = source(path)
            if samples is not None:
                return samples
        is_there = path.exists()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read", seen=reason, fix=f"give {LAYOUTS}") from error
    if is_there and target:
        raise DataError(
            f"{path} is no table, so no column of it can be the target",
            seen=f"data.target={target}",
            fix="leave the target out, or give a CSV",
        )
    if is_there:
        raise DataError(f"the layout of {path} is not recognised", fix=f"give {LAYOUTS}")
    raise DataError(f"there is no {path}", seen=_nearby(path), fix=f"give {LAYOUTS}")


def _sources_for(target: str) -> Iterable[Source]:
    """All sources, plug-ins last; only those with columns if a target column is named."""
    if not target:
        return SOURCES.with_plugins()
    return partial(csv_manifest, target=target), partial(csv_table, target=target)


def _nearby(path: Path) -> str:
    """Similar names in the same folder."""
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        return f"nor a folder {path.parent}"
    close = get_close_matches(path.name, names, n=3)
    return f"close to it: {', '.join(close)}" if close else ""
