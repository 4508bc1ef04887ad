"""The samples in an unpacked archive, in the words of a user who named the archive."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from thalweg.data.ignored_names import is_ignored
from thalweg.data.samples import Files, Labels, Samples
from thalweg.data.sources.table_file import TABLE_SUFFIXES
from thalweg.errors import DataError
from thalweg.wording import some

MOST_WRAPPINGS = 3  # folders around the tables


def samples_in_archive(
    archive: Path, folder: Path, read: Callable[[Path], Samples], *, notes: Sequence[str]
) -> Samples:
    """The samples in the folder that an archive was unpacked into, as `read` finds them.

    A table beside no folders of classes holds them: a list of images, or rows.
    """
    tables = _tables(folder)
    try:
        samples = _classes(folder, read)
        if samples is None or (tables and _num_classes(samples) < 2):
            samples = read(_only(tables, folder) if tables else folder)
    except DataError as error:
        problem, seen, fix = (
            text.replace(f"{folder}/", f"{archive}: ").replace(str(folder), str(archive))
            for text in (error.problem, error.seen, error.fix)
        )
        raise type(error)(problem, seen=seen, fix=fix) from error
    files = samples.inputs
    return replace(
        samples,
        inputs=replace(files, origin=archive) if isinstance(files, Files) else files,
        label_place=samples.label_place.replace(str(folder), str(archive)),
        notes=(*notes, *samples.notes),
    )


def _classes(folder: Path, read: Callable[[Path], Samples]) -> Samples | None:
    """The samples in folders of classes; None where there are tables and no such folders."""
    try:
        return read(folder)
    except DataError:
        if not _tables(folder):
            raise
        return None


def _num_classes(samples: Samples) -> int:
    labels = samples.labels
    return len(labels.texts) if isinstance(labels, Labels) else len(np.unique(labels))


def _tables(folder: Path) -> list[Path]:
    """The tables and arrays in the folder, or in the only folder in it."""
    for _ in range(MOST_WRAPPINGS):
        entries = sorted(path for path in folder.iterdir() if not is_ignored(path.name))
        tables = [p for p in entries if p.name.lower().endswith((*TABLE_SUFFIXES, ".npz"))]
        if tables or len(entries) != 1 or not entries[0].is_dir():
            return tables
        folder = entries[0]
    return []


def _only(tables: Sequence[Path], folder: Path) -> Path:
    """The one table. Raises DataError for several."""
    if len(tables) > 1:
        raise DataError(
            f"{folder} holds several tables",
            seen=some([table.name for table in tables]),
            fix="unpack it, and name one of them",
        )
    return tables[0]
