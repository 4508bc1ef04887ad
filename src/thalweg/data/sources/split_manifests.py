"""Folders train, val and test of images, each with a CSV that lists its images and their labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thalweg.data.ignored_names import is_ignored
from thalweg.data.samples import SPLITS, UNSPLIT, Files, Labels, Quarantined, Samples, split_called
from thalweg.data.sources.csv_file import CSV_SUFFIXES
from thalweg.data.sources.csv_manifest import csv_manifest


def split_manifests(path: Path) -> Samples | None:
    """The images that the CSV of each split lists, with the split of its folder.

    None unless there is a folder of training, and each folder of a split has one CSV, which lists
    images, and no folders: those may be classes.
    """
    if not path.is_dir():
        return None
    folders = [f for f in sorted(path.iterdir()) if f.is_dir() and split_called(f.name) != UNSPLIT]
    tables = [_table_in(folder) for folder in folders]
    if "train" not in [SPLITS[split_called(folder.name)] for folder in folders] or None in tables:
        return None
    parts = [csv_manifest(table) for table in tables if table is not None]
    samples = [part for part in parts if part is not None]
    return _join(path, folders, samples) if len(samples) == len(folders) else None


def _table_in(folder: Path) -> Path | None:
    """The only CSV in a folder without folders; None for no or several ones."""
    entries = [entry for entry in folder.iterdir() if not is_ignored(entry.name)]
    tables = [entry for entry in entries if entry.name.lower().endswith(CSV_SUFFIXES)]
    return tables[0] if len(tables) == 1 and not any(e.is_dir() for e in entries) else None


def _join(path: Path, folders: Sequence[Path], parts: Sequence[Samples]) -> Samples:
    """The samples of all parts, by their paths from the common folder."""
    names: list[str] = []
    printable_names: list[str] = []
    splits: list[int] = []
    quarantined: list[Quarantined] = []
    for folder, part in zip(folders, parts, strict=True):
        assert isinstance(part.inputs, Files)
        names += [f"{folder.name}/{name}" for name in part.inputs.names]
        printable_names += [f"{folder.name}/{name}" for name in part.names]
        splits += [split_called(folder.name)] * len(part.names)
        quarantined += [Quarantined(f"{folder.name}/{q.name}", q.reason) for q in part.quarantined]
    notes = [note for part in parts for note in part.notes]
    return Samples(
        inputs=Files(path, path, tuple(names)),
        names=tuple(printable_names),
        labels=_joined_labels([part.labels for part in parts if isinstance(part.labels, Labels)]),
        splits=np.array(splits, dtype=np.int8),
        label_place=f"{parts[0].label_place} of the tables in {path}",
        quarantined=tuple(quarantined),
        notes=tuple(dict.fromkeys(notes)),
    )


def _joined_labels(parts: Sequence[Labels]) -> Labels:
    codes: list[int] = []
    texts: dict[str, int] = {}
    members: dict[str, tuple[str, ...]] = {}
    for part in parts:
        listed = part.members or tuple((text,) for text in part.texts)
        members |= dict(zip(part.texts, listed, strict=True))
        codes += [texts.setdefault(part.texts[code], len(texts)) for code in part.codes]
    array = np.array(codes, dtype=np.int64)
    are_lists = any(part.members for part in parts)
    return Labels(
        array,
        tuple(texts),
        may_be_numbers=all(part.may_be_numbers for part in parts),
        members=tuple(members[text] for text in texts) if are_lists else (),
    )
