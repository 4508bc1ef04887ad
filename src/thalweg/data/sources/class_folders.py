"""A folder with a folder per class, with or without train, val and test above them."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thalweg.data.ignored_names import is_ignored
from thalweg.data.images.formats import (
    FOREIGN_SUFFIXES,
    SNIFFED_BYTES,
    SUFFIXES,
    format_of,
    suffix_of,
)
from thalweg.data.samples import (
    SPLITS,
    UNSPLIT,
    Files,
    Labels,
    Samples,
    split_called,
)
from thalweg.data.sources.foreign_files import FOREIGN_REMEDIES
from thalweg.data.sources.table_file import TABLE_SUFFIXES
from thalweg.errors import DataError, printable
from thalweg.wording import some

_PICTURE_WORDS = frozenset({"images", "image", "imgs", "img", "inputs", "pictures", "photos"})
_MASK_WORDS = frozenset({"masks", "mask", "labels", "annotations", "segmentation", "gt"})
_TABLES = (*TABLE_SUFFIXES, ".npz")
MOST_WRAPPINGS = 3  # folders around the folder of classes
DEEPEST = 6  # levels below a folder that are searched for an image
MOST_VISITED = 200  # folders that are searched for an image


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
    top, notes = _without_wrapping(path)
    homes = _class_homes(path, top, skipped)
    if not homes:
        raise _no_classes(path)
    _check_names(path, [label for split, label, _ in homes if split == UNSPLIT])
    _check_table(path, {label for _, label, _ in homes})
    notes += _nested_folders(path, homes)
    identities = {_identity(path / folder) for _, _, folder in homes}
    names: list[str] = []
    codes: list[int] = []
    splits: list[int] = []
    texts: dict[str, int] = {}
    for split, label, folder in homes:
        files = list(_image_files(path, folder, skipped, homes=identities))
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
        notes=(*notes, *skipped.notes()),
    )


def _without_wrapping(root: Path) -> tuple[str, list[str]]:
    """The folder that holds the classes or the splits, relative to the root, and a note.

    An archive often unpacks into a folder of its own, images/CLASS or data/data/train: where one
    folder alone holds images, all of them in folders of their own, these are the classes.
    """
    folder = ""
    for _ in range(MOST_WRAPPINGS):
        if _loose_images(root, folder) or _is_split_layout(root, folder):
            break
        holders = [name for name in _paths_in(root, folder) if _holds_images(root, name)]
        if len(holders) != 1 or _loose_images(root, holders[0]):
            break
        inner = [name for name in _paths_in(root, holders[0]) if _holds_images(root, name)]
        if len(inner) < 1:
            break
        folder = holders[0]
    return folder, [f"the classes are the folders in {printable(folder)}/"] if folder else []


def _paths_in(root: Path, folder: str) -> list[str]:
    """The folders in a folder, relative to the root."""
    return [_join(folder, name) for name in _subfolders(root, folder, _Skipped())]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _holds_images(root: Path, folder: str) -> bool:
    """Return whether there is an image in the folder, or in one of the folders below it."""
    pending = [(folder, 0)]
    for _ in range(MOST_VISITED):
        if not pending:
            return False
        name, depth = pending.pop(0)
        try:
            if _loose_images(root, name):
                return True
            if depth < DEEPEST:
                pending += [(inner, depth + 1) for inner in _paths_in(root, name)]
        except OSError:
            continue
    return False


def _is_split_layout(root: Path, folder: str) -> bool:
    """Return whether a folder of it is called train and has folders.

    A folder "train" may also be a class, beside "bus": then it holds images and no folders.
    """
    return any(
        split_called(name) == SPLITS.index("train")
        and bool(_subfolders(root, _join(folder, name), _Skipped()))
        for name in _subfolders(root, folder, _Skipped())
    )


def _class_homes(root: Path, top: str, skipped: _Skipped) -> list[tuple[int, str, str]]:
    """(split, class, folder relative to the root) of every class folder in the folder `top`."""
    names = _subfolders(root, top, skipped)
    if not _is_split_layout(root, top):
        for name in _loose_images(root, top):
            skipped.add("images beside the class folders", name)
        return [(UNSPLIT, name, _join(top, name)) for name in names]
    homes = []
    for name in names:
        split = split_called(name)
        if split == UNSPLIT:
            skipped.add("folders beside train, val and test", name)
            continue
        folder = _unwrapped_split(root, _join(top, name))
        inner = _subfolders(root, folder, skipped)
        homes += [(split, label, f"{folder}/{label}") for label in inner]
        for loose in _loose_images(root, folder):
            skipped.add("images outside of a class folder", loose)
    return homes


def _unwrapped_split(root: Path, folder: str) -> str:
    """The folder of a split's classes: seg_train/seg_train for seg_train."""
    inner = _paths_in(root, folder)
    is_wrapped = (
        len(inner) == 1
        and split_called(inner[0].rpartition("/")[2]) == split_called(folder.rpartition("/")[2])
        and not _loose_images(root, folder)
        and bool(_paths_in(root, inner[0]))
    )
    return inner[0] if is_wrapped else folder


def _entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(root / folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _subfolders(root: Path, folder: str, skipped: _Skipped) -> list[str]:
    names = []
    for entry in _entries(root, folder):
        if is_ignored(entry.name):
            skipped.add("hidden and system files", entry.name)
        elif _mode(entry) == stat.S_IFDIR:
            names.append(entry.name)
    return names


def _loose_images(root: Path, folder: str) -> list[str]:
    return [
        entry.name
        for entry in _entries(root, folder)
        if not is_ignored(entry.name)
        and _mode(entry) == stat.S_IFREG
        and suffix_of(entry.name) in SUFFIXES
    ]


def _identity(folder: Path) -> tuple[int, int]:
    """The folder itself, by whatever path it is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _image_files(
    root: Path, folder: str, skipped: _Skipped, *, homes: Set[tuple[int, int]]
) -> Iterator[str]:
    """Relative paths of the images in a folder and below, every real folder visited once.

    The folders of other classes, to which a link below may lead, are left to these.
    """
    visited: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            identity = _identity(root / current)
            entries = _entries(root, current)
        except OSError:
            skipped.add("folders that cannot be read", current)
            continue
        if identity in visited:
            skipped.add("links back to a folder already read", current)
            continue
        if current != folder and identity in homes:
            skipped.add("links to the folder of another class", current)
            continue
        visited.add(identity)
        for entry in entries:
            name = f"{current}/{entry.name}"
            kind = _mode(entry)
            if is_ignored(entry.name):
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
    if suffix_of(entry.name) in SUFFIXES | FOREIGN_SUFFIXES:
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


def _check_names(path: Path, labels: Sequence[str]) -> None:
    """Raise DataError where the folders cannot be classes: train and val, or images and masks."""
    quoted = " and ".join(repr(printable(label)) for label in labels)
    if len(labels) > 1 and all(split_called(label) != UNSPLIT for label in labels):
        raise DataError(
            f"{path} has splits, but no class folders in them",
            seen=f"{quoted} hold images; labels of detection or segmentation are not read",
            fix="put the images of each class into train/CLASS and val/CLASS, or list them with "
            "their classes in a CSV of path,label",
        )
    words = {label.lower() for label in labels}
    if len(words) == 2 and words & _PICTURE_WORDS and words & _MASK_WORDS:
        raise DataError(
            f"{path} has no class folders",
            seen=f"{quoted}: images and their masks; segmentation is no task here",
            fix="name the folder of the class folders; rename these two if they are classes",
        )


def _check_table(path: Path, labels: Set[str]) -> None:
    """Raise DataError where all images are in one folder, and a table beside it may list them."""
    tables = _tables_in(path)
    if len(labels) == 1 and tables:
        raise DataError(
            f"{path} has one folder of images and {some(tables)}, which may list their classes",
            seen=f"the folder {printable(min(labels))!r}",
            fix=f"name the table: thalweg train {path / min(tables, key=_table_rank)}",
        )


def _tables_in(path: Path) -> list[str]:
    """The names of the tables directly in a folder."""
    names = [entry.name for entry in _entries(path, "") if not is_ignored(entry.name)]
    return [name for name in names if name.lower().endswith(_TABLES)]


def _nested_folders(root: Path, homes: Sequence[tuple[int, str, str]]) -> list[str]:
    """A note where each class has folders that may be the classes.

    They have the same names in each, or no class has images beside them.
    """
    inner = [
        {name.rpartition("/")[2] for name in _paths_in(root, folder)} for _, _, folder in homes
    ]
    shared = set.intersection(*inner) if len(inner) > 1 else set[str]()
    words = [name for name in sorted(shared) if not name.isdecimal()]
    if len(words) > 1:
        return [_nested_note("each class folder holds the folders", words)]
    words = sorted({name for names in inner for name in names})
    if len(inner) > 1 and min(map(len, inner)) > 1 and not any(map(_has_digit, words)):
        loose = any(_loose_images(root, folder) for _, _, folder in homes)
        return [] if loose else [_nested_note("the class folders hold the folders", words)]
    return []


def _has_digit(name: str) -> bool:
    """Return whether a name may be a number, a year or a session, and no class."""
    return any(mark.isdigit() for mark in name)


def _nested_note(beginning: str, words: Sequence[str]) -> str:
    names = some([repr(printable(name)) for name in words])
    return (
        f"{beginning} {names}: taken as parts of the class; if they are the classes, put them on "
        "top"
    )


def _no_classes(path: Path) -> DataError:
    """The error for a folder without class folders, with what it holds instead."""
    suffixes = Counter(_suffixes_below(path))
    tables = _tables_in(path)
    held = ", ".join(f"{count:,} × {suffix}" for suffix, count in suffixes.most_common(5))
    fix = "put the images of each class into a folder with the class's name"
    if tables:
        fix = f"name the file: thalweg train {path / min(tables, key=_table_rank)}"
    elif suffixes and (remedy := FOREIGN_REMEDIES.get(suffixes.most_common(1)[0][0])):
        fix = remedy
    return DataError(f"{path} has no class folders with images", seen=held or "nothing", fix=fix)


def _suffixes_below(path: Path) -> Iterator[str]:
    """The suffixes of files in the folder and in those directly in it."""
    for entry in _entries(path, ""):
        if is_ignored(entry.name):
            continue
        if _mode(entry) != stat.S_IFDIR:
            yield suffix_of(entry.name) or "no suffix"
            continue
        with suppress(OSError):
            names = [inner.name for inner in _entries(path, entry.name)]
            yield from (suffix_of(name) or "no suffix" for name in names if not is_ignored(name))


def _table_rank(name: str) -> tuple[int, str]:
    """Tables to train on first; those to predict, or to fill in, last."""
    words = name.lower()
    if any(word in words for word in ("submission", "sample")):
        return 3, name
    split = split_called(name.partition(".")[0])
    return {SPLITS.index("train"): 0, UNSPLIT: 1}.get(split, 2), name
