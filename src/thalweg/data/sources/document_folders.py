"""Files of text in a folder for each class: aclImdb/train/pos/0_9.txt."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.ignored_names import is_ignored
from thalweg.data.images.formats import suffix_of
from thalweg.data.samples import UNSPLIT, Labels, Quarantined, Samples, split_called
from thalweg.data.text.documents import DocumentNames, Documents
from thalweg.data.text.read_document import decode_document
from thalweg.errors import DataError, printable
from thalweg.wording import some

SUFFIXES = (".txt", ".text", ".eml", ".md", ".html", ".htm")
UNLABELLED = frozenset({"unsup", "unlabeled", "unlabelled", "unsupervised"})
LARGEST = 16 << 20  # bytes of one text
MOST_OTHERS = 0.2  # of the files in class folders, that are no texts
LEAST_CLASSES = 2


class _Place(NamedTuple):
    path: Path
    name: str  # relative to the folder that the user named
    label: str
    split: int


def document_folders(path: Path) -> Samples | None:
    """The texts of a folder of class folders, with splits above them or without.

    None where there are no two folders of texts. Files beside the class folders are no samples.
    """
    if not path.is_dir():
        return None
    homes = list(_class_folders(path))
    if len({label for label, _, _ in homes}) < LEAST_CLASSES:
        return None
    skipped = sorted({label for label, _, _ in homes if label.lower() in UNLABELLED})
    places = [
        _Place(file, str(file.relative_to(path)), label, split)
        for label, split, folder in homes
        if label not in skipped
        for file in _files(folder)
    ]
    labels = sorted({place.label for place in places})
    if len(labels) < LEAST_CLASSES:
        return None
    texts, readable, quarantined = list[str](), list[_Place](), list[Quarantined]()
    for place in places:
        try:
            texts.append(_text(place))
            readable.append(place)
        except (DataError, OSError) as error:
            reason = error.problem if isinstance(error, DataError) else str(error.strerror)
            quarantined.append(Quarantined(printable(place.name), reason))
    code = {label: number for number, label in enumerate(labels)}
    notes = [f"folders without labels are left out: {some(skipped)}"] if skipped else []
    return Samples(
        inputs=Documents(texts, np.zeros((len(texts), 0), dtype=np.float32)),
        names=DocumentNames([printable(place.name) for place in readable], texts),
        labels=Labels(np.array([code[place.label] for place in readable]), tuple(labels)),
        splits=np.array([place.split for place in readable], dtype=np.int8),
        label_place=f"the folders of {path}",
        quarantined=tuple(quarantined),
        notes=tuple(notes),
    )


def _class_folders(path: Path) -> Iterator[tuple[str, int, Path]]:
    """Label, split and folder of each class; a folder that holds folders alone may be around."""
    folders = _folders(path)
    while len(folders) == 1 and not _files(folders[0]):
        path = folders[0]
        folders = _folders(path)
    splits = [split_called(folder.name) for folder in folders]
    in_splits = [f for f, split in zip(folders, splits, strict=True) if split != UNSPLIT]
    if in_splits and all(_folders(folder) for folder in in_splits):
        for folder in in_splits:
            for inner in _folders(folder):
                if _are_texts(inner):
                    yield inner.name, split_called(folder.name), inner
        return
    if in_splits and len(in_splits) == len(folders):
        return  # train and test are no classes
    for folder in folders:
        if _are_texts(folder):
            yield folder.name, UNSPLIT, folder


def _folders(path: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(path) if _is(entry.is_dir)]


def _files(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _is(entry.is_file)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The files and folders in a folder, without system files; [] where it cannot be read.

    Their types come with their names: every folder of images is looked at here before it is read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not is_ignored(entry.name)),
                key=lambda entry: entry.name,
            )
    except OSError:
        return []


def _is(kind: Callable[[], bool]) -> bool:
    """The answer, links followed; False for a broken or circular link."""
    try:
        return kind()
    except OSError:
        return False


def _are_texts(folder: Path) -> bool:
    """Return whether the files have suffixes of texts, or names without one that are texts."""
    files = [entry.name for entry in _entries(folder) if _is(entry.is_file)]
    suffixes = [suffix_of(name) for name in files]
    if files and sum(suffix in SUFFIXES for suffix in suffixes) >= (1 - MOST_OTHERS) * len(files):
        return True
    pairs = zip(files, suffixes, strict=True)
    bare = [name for name, suffix in pairs if not suffix[1:] or suffix[1:].isdecimal()]
    if not files or len(bare) < (1 - MOST_OTHERS) * len(files):
        return False
    return all(_begins_like_text(folder / name) for name in bare[:: max(1, len(bare) // 5)])


def _begins_like_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return False
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start)
    return bool(start) and controls == 0


def _text(place: _Place) -> str:
    size = place.path.stat().st_size
    if size > LARGEST:
        raise DataError("too large for one text", seen=f"{size:,} bytes")
    return decode_document(place.path.read_bytes(), name=place.name)
