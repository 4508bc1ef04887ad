"""A folder with a folder per class, with or without train, val and test above them."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thalweg.data.images.formats import FOREIGN_SUFFIXES, SNIFFED_BYTES, SUFFIXES, format_of
from thalweg.data.samples import (
    SPLITS,
    UNSPLIT,
    Files,
    Labels,
    Samples,
    split_called,
)
from thalweg.errors import DataError, printable
from thalweg.wording import some

_SYSTEM_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "icon\r", "@eadir", "ehthumbs.db"}
)


@dataclass(slots=True)
class _Skipped:
    """Entries that are no samples: kind → names."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        self.names.setdefault(kind, []).append(printable(name))

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"{len(names):,} skipped, {kind}: {some(names)}" for kind, names in self.names.items()
        )


def class_folders(path: Path) -> Samples | None:
    """Image files, each with its class folder, at any depth. None if the path is no folder."""
    if not path.is_dir():
        return None
    skipped = _Skipped()
    homes = _class_homes(path, skipped)
    if not homes:
        raise _no_classes(path)
    names: list[str] = []
    codes: list[int] = []
    splits: list[int] = []
    texts: dict[str, int] = {}
    for split, label, folder in homes:
        files = list(_image_files(path, folder, skipped))
        if not files:
            skipped.add("class folders without images", folder)
            continue
        names += files
        codes += [texts.setdefault(label, len(texts))] * len(files)
        splits += [split] * len(files)
    if not names:
        raise _no_classes(path)
    order = sorted(range(len(names)), key=lambda i: names[i])
    return Samples(
        inputs=Files(path, path, tuple(names[i] for i in order)),
        names=tuple(printable(names[i]) for i in order),
        labels=Labels(np.array(codes, dtype=np.int64)[order], tuple(texts)),
        splits=np.array(splits, dtype=np.int8)[order],
        label_place=f"the folders in {path}",
        notes=skipped.notes(),
    )


def _class_homes(root: Path, skipped: _Skipped) -> list[tuple[int, str, str]]:
    """(split, class, folder relative to the root) of every class folder."""
    top = _subfolders(root, "", skipped)
    splits = {name: split_called(name) for name in top}
    # A folder "train" may also be a class, beside "bus": then it holds images and no folders.
    is_split_layout = any(
        split == SPLITS.index("train") and _subfolders(root, name, _Skipped())
        for name, split in splits.items()
    )
    if not is_split_layout:
        for name in _loose_images(root, ""):
            skipped.add("images beside the class folders", name)
        return [(UNSPLIT, name, name) for name in top]
    homes = []
    for name, split in splits.items():
        if split == UNSPLIT:
            skipped.add("folders beside train, val and test", name)
            continue
        inner = _subfolders(root, name, skipped)
        homes += [(split, label, f"{name}/{label}") for label in inner]
        for loose in _loose_images(root, name):
            skipped.add("images outside of a class folder", loose)
    return homes


def _entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(root / folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _subfolders(root: Path, folder: str, skipped: _Skipped) -> list[str]:
    names = []
    for entry in _entries(root, folder):
        if _is_ignored(entry.name):
            skipped.add("hidden and system files", entry.name)
        elif _mode(entry) == stat.S_IFDIR:
            names.append(entry.name)
    return names


def _loose_images(root: Path, folder: str) -> list[str]:
    return [
        entry.name
        for entry in _entries(root, folder)
        if not _is_ignored(entry.name)
        and _mode(entry) == stat.S_IFREG
        and _suffix(entry.name) in SUFFIXES
    ]


def _image_files(root: Path, folder: str, skipped: _Skipped) -> Iterator[str]:
    """Relative paths of the images in a folder and below, every real folder visited once."""
    visited: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            status = (root / current).stat()
            entries = _entries(root, current)
        except OSError:
            skipped.add("folders that cannot be read", current)
            continue
        if (status.st_dev, status.st_ino) in visited:
            skipped.add("links back to a folder already read", current)
            continue
        visited.add((status.st_dev, status.st_ino))
        for entry in entries:
            name = f"{current}/{entry.name}"
            kind = _mode(entry)
            if _is_ignored(entry.name):
                skipped.add("hidden and system files", name)
            elif kind == stat.S_IFDIR:
                pending.append(name)
            elif reason := _reason_to_skip(entry, kind):
                skipped.add(reason, name)
            else:
                yield name


def _reason_to_skip(entry: os.DirEntry[str], kind: int) -> str:
    """The reason why an entry is no image; "" if its suffix or its first bytes are an image's."""
    if kind == 0:
        return "links that lead nowhere"
    if kind != stat.S_IFREG:
        return "pipes, sockets and devices"
    if _suffix(entry.name) in SUFFIXES | FOREIGN_SUFFIXES:
        return ""
    try:
        with Path(entry.path).open("rb") as file:
            return "" if format_of(file.read(SNIFFED_BYTES)) else "not images"
    except OSError:
        return "not images"


def _mode(entry: os.DirEntry[str]) -> int:
    """The type of the file, links followed; 0 for a broken or circular link."""
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return 0


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (a Path for each file costs more)


def _no_classes(path: Path) -> DataError:
    """The error for a folder without class folders, with what it holds instead."""
    suffixes = Counter(
        _suffix(entry.name) or "no suffix"
        for entry in _entries(path, "")
        if not _is_ignored(entry.name)
    )
    tables = [e.name for e in _entries(path, "") if _suffix(e.name) in {".csv", ".tsv", ".npz"}]
    held = ", ".join(f"{count:,} × {suffix}" for suffix, count in suffixes.most_common(5))
    fix = "put the images of each class into a folder with the class's name"
    if tables:
        fix = f"name the file: thalweg train {path / tables[0]}"
    return DataError(f"{path} has no class folders with images", seen=held or "nothing", fix=fix)
