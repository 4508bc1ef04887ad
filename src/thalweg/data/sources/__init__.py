"""Sources, one file a layout of data: each is a function `(path) -> Samples | None`."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path

from thalweg.data.archives.unpack import is_archive, unpacked_folder
from thalweg.data.samples import Samples
from thalweg.data.series.options import SeriesOptions
from thalweg.data.sources.archive_contents import samples_in_archive
from thalweg.data.sources.array_file import array_file
from thalweg.data.sources.builtin_digits import builtin_digits
from thalweg.data.sources.class_folders import class_folders
from thalweg.data.sources.csv_manifest import csv_manifest
from thalweg.data.sources.csv_table import csv_table
from thalweg.data.sources.document_folders import document_folders
from thalweg.data.sources.foreign_files import FOREIGN_REMEDIES
from thalweg.data.sources.group_column import NO_GROUPS
from thalweg.data.sources.labelled_lines import labelled_lines
from thalweg.data.sources.pair_file import SEQUENCE, pair_file
from thalweg.data.sources.pair_folder import pair_folder
from thalweg.data.sources.question_file import question_file
from thalweg.data.sources.series_table import AUTOMATIC, series_table
from thalweg.data.sources.split_manifests import split_manifests
from thalweg.data.sources.text_file import text_file
from thalweg.errors import DataError
from thalweg.registry import Registry

Source = Callable[[Path], Samples | None]

# Tried in this order; the first that recognises the layout reads it. `class_folders` refuses every
# folder that it cannot read, so it is the last one, after the plug-ins.
SOURCES: Registry[Source] = Registry(
    "source",
    (
        builtin_digits,
        array_file,
        question_file,
        pair_file,
        pair_folder,
        csv_manifest,
        series_table,
        csv_table,
        labelled_lines,
        split_manifests,
        text_file,
        document_folders,
        class_folders,
    ),
)
LAYOUTS = (
    "a folder with a folder per class, a table (CSV, JSON lines, Parquet or Arrow) of paths and "
    "labels, of numbers, of texts, of series, of sequences to read and to write, an .npz or .npy "
    "file, a .zip or .tar of one of these, a .txt file, or the word digits"
)


def samples_at(
    path: Path,
    *,
    target: str = "",
    group: str = "",
    source: str = "",
    task: str = "",
    series: SeriesOptions = AUTOMATIC,
) -> Samples:
    """The samples at the path, from the first source that recognises the layout, else DataError.

    `target` is the column of a table to predict; "": the column with a usual name, else the last.
    `group` is the column of samples that stay together; "": one with a usual name, if any; "none".
    `source` is the column that sequences are written from, where `task` is to write them; a path is
    read as pairs without these only if it is beyond doubt.
    `series` says if a table is to be read as series.
    """
    read = partial(_samples_at, target=target, group=group, source=source, task=task, series=series)
    try:
        if is_archive(path):
            folder, notes = unpacked_folder(path)
            return samples_in_archive(path, folder, read, notes=notes)
        return read(path)
    except PermissionError as error:
        place = error.filename or path
        raise DataError(
            f"{place} cannot be read",
            seen=error.strerror or str(error),
            fix=f"allow it, as by: chmod -R u+rX {place}; or leave it out",
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read", seen=reason, fix=f"give {LAYOUTS}") from error


def _samples_at(
    path: Path, *, target: str, group: str, source: str, task: str, series: SeriesOptions
) -> Samples:
    """The samples of the first source that recognises the layout."""
    for read in _sources_for(target, group, source=source, task=task, series=series):
        samples = read(path)
        if samples is not None:
            return samples
    is_there = path.exists()
    if is_there and (target or source or group not in ("", NO_GROUPS)):
        roles = {"target": target, "source": source, "group": group}
        role, name = next(item for item in roles.items() if item[1])
        raise DataError(
            f"{path} is no table, so no column of it can be the {role}",
            seen=f"data.{role}={name}",
            fix=f"leave the {role} out, or give a table: CSV, JSON lines, Parquet or Arrow",
        )
    if is_there:
        remedy = FOREIGN_REMEDIES.get(path.suffix.lower(), "")
        fix = f"{remedy}; or give {LAYOUTS}" if remedy else f"give {LAYOUTS}"
        raise DataError(f"the layout of {path} is not recognised", fix=fix)
    raise DataError(f"there is no {path}", seen=_nearby(path), fix=f"give {LAYOUTS}")


def _sources_for(
    target: str, group: str, *, source: str, task: str, series: SeriesOptions
) -> Iterable[Source]:
    """All sources, plug-ins after ours; only those with columns if a column is named.

    Only that of series where the user asks for a forecast.
    """
    own: Source = partial(series_table, target=target, group=group, options=series)
    tables: dict[Source, Source] = {
        pair_file: partial(pair_file, target=target, column=source, task=task),
        csv_manifest: partial(csv_manifest, target=target, group=group),
        series_table: own,
        csv_table: partial(csv_table, target=target, group=group),
    }
    if series.is_asked:
        return (own,)
    if source or task == SEQUENCE:
        return (tables[pair_file], pair_folder)
    if target or group not in ("", NO_GROUPS):
        return tables.values()
    if task:
        tables[pair_folder] = lambda path: None
    others = (read for read in SOURCES.with_plugins() if read is not class_folders)
    return (tables.get(read, read) for read in chain(others, (class_folders,)))


def _nearby(path: Path) -> str:
    """Similar names in the same folder."""
    try:
        names = [other.name for other in path.parent.iterdir()]
    except OSError:
        return f"nor a folder {path.parent}"
    close = get_close_matches(path.name, names, n=3)
    return f"close to it: {', '.join(close)}" if close else ""
