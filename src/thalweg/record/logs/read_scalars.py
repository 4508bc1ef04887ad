"""Choose the reader for a path, and read its curves."""

from pathlib import Path

from thalweg.errors import DataError, NoRunError, UsageError
from thalweg.record.logs.csv_rows import csv_rows
from thalweg.record.logs.event_file import event_scalars
from thalweg.record.logs.json_rows import json_rows
from thalweg.record.logs.scalars import Points, Scalars, from_rows
from thalweg.record.metric_names import split_of

EVENTS = "tfevents"  # in the name of every event file
STATE = "trainer_state.json"


def read_scalars(path: Path) -> Scalars:
    """Read the curves of a file, or of the one log in a folder.

    Raises NoRunError where nothing is there, DataError for what cannot be read, UsageError for a
    folder with several logs.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise NoRunError(
            f"{path} is no run", seen="no such file or folder", fix="thalweg runs DIR lists"
        )
    if EVENTS in path.name:
        return Scalars(event_scalars(path), "step")
    rows = json_rows if path.suffix in (".json", ".jsonl") else csv_rows
    return from_rows(rows(path))


def _folder(path: Path) -> Scalars:
    tables = [path / STATE] if (path / STATE).is_file() else sorted(path.glob("*.csv"))
    if len(tables) == 1:
        return read_scalars(tables[0])
    files = sorted(each for each in path.rglob(f"*{EVENTS}*") if each.is_file())
    if files:
        return Scalars(_event_files(path, files), "step")
    if tables:
        raise _several_logs(path, [table.name for table in tables])
    raise NoRunError(
        f"{path} is no run",
        seen="no run.db in it, no trainer_state.json, no CSV, no event file",
        fix="thalweg runs DIR lists",
    )


def _event_files(path: Path, files: list[Path]) -> dict[str, Points]:
    """One log may be in several files (a resumed run) and folders (a split, or a tag, each)."""
    curves: dict[str, Points] = {}
    origin: dict[str, Path] = {}
    for file in files:
        folder = file.parent.relative_to(path)
        for tag, points in event_scalars(file).items():
            name = tag
            if split_of(folder.name) and not split_of(tag):
                name = f"{split_of(folder.name)}/{tag}"
            if origin.setdefault(name, folder) != folder:
                raise _several_logs(path, [str(origin[name]), str(folder)])
            curves.setdefault(name, {}).update(points)
    if not curves:
        raise DataError(
            f"{path} holds no curves",
            seen=f"no scalars in {len(files)} event files",
            fix="log the loss with add_scalar",
        )
    return curves


def _several_logs(path: Path, names: list[str]) -> UsageError:
    return UsageError(
        f"{path} holds several logs", seen=", ".join(names[:6]), fix="name one of them"
    )
