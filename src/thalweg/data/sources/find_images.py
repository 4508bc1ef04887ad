"""Find the images that a table lists, where its paths are not relative to its own folder.

Tables come from other machines (absolute paths), lie beside the folder of their images, or list ids
without an extension. A placement says how a cell becomes a path, and is tried on the first rows.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from thalweg.data.images.formats import SUFFIXES, suffix_of
from thalweg.record.schema import DATABASE

DEEPEST = 3  # levels of folders below the table's
MOST_FOLDERS = 100
MOST_ENTRIES = 2000  # of one folder that are looked at for an image
SHARE = 0.9  # of the sampled cells that must be files


class Placement(NamedTuple):
    """A way from a cell to a path relative to the table's folder."""

    folder: str = ""  # put before it
    suffix: str = ""  # put after it
    parts: int = 0  # its last parts, which alone are used; 0: all
    ending: str = ""  # put in place of its suffix

    def name(self, cell: str) -> str:
        """The path of a cell."""
        parts = [part for part in cell.replace("\\", "/").split("/") if part not in ("", ".")]
        tail = "/".join(parts[-self.parts :]) if self.parts else cell
        if self.ending:
            tail = tail.removesuffix(Path(tail).suffix) + self.ending
        return (f"{self.folder}/{tail}" if self.folder else tail) + self.suffix

    def note(self) -> str:
        """The note that says how paths are read; empty for paths as they are written."""
        ways = []
        if self.parts:
            ways.append("the last part" if self.parts == 1 else f"the last {self.parts} parts")
        if self.folder:
            ways.append(f"in {self.folder}/")
        if self.suffix:
            ways.append(f"with {self.suffix} added")
        if self.ending:
            ways.append(f"with {self.ending} as suffix")
        return ", ".join(ways)


AS_WRITTEN = Placement()


def find_images(root: Path, cells: Sequence[str]) -> Placement | None:
    """The placement that makes most of the cells image files below the root; None for none.

    The cells as written come first, then a suffix, then other folders, then fewer parts.
    """
    cells = [cell for cell in cells if cell and "\0" not in cell and len(cell) < 1000]
    if not cells:
        return None
    if _fits(root, cells, AS_WRITTEN):
        return AS_WRITTEN
    folders = list(image_folders(root))
    return next((p for p in _placements(folders, cells) if _fits(root, cells, p)), None)


def image_folders(root: Path) -> Iterator[str]:
    """Folders with images, or with folders of images, below the root; the root itself is "".

    Runs that lie there are passed over.
    """
    pending = [("", 0)]
    for _ in range(MOST_FOLDERS):
        if not pending:
            return
        folder, depth = pending.pop(0)
        entries = _entries(root / folder)
        if folder and any(name == DATABASE for name, _ in entries):
            continue  # a run, such as one trained on this table
        inner = [name for name, is_folder in entries if is_folder]
        holds_images = any(suffix_of(name) in SUFFIXES for name, _ in entries)
        if holds_images or (folder and inner):
            yield folder
        if depth < DEEPEST:
            pending += [(f"{folder}/{name}" if folder else name, depth + 1) for name in inner]


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """(name, is it a folder) of the visible entries, sorted; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            some = [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in islice(entries, MOST_ENTRIES)
                if not entry.name.startswith(".")
            ]
    except OSError:
        return []
    return sorted(some)


def _placements(folders: Sequence[str], cells: Sequence[str]) -> Iterator[Placement]:
    has_suffix = all(suffix_of(cell) in SUFFIXES for cell in cells)
    lengths = [len(cell.replace("\\", "/").strip("/").split("/")) for cell in cells]
    most = min(lengths)
    suffixes = ("",) if has_suffix else tuple(_common_suffixes())
    for parts in (0, *range(most, 0, -1)):
        for folder in folders:
            for suffix in suffixes:
                yield Placement(folder, suffix, parts)
    if has_suffix:  # .JPG where the files are .jpg, or were converted since
        for folder in ("", *folders):
            for ending in _common_suffixes():
                yield Placement(folder, ending=ending)


def _common_suffixes() -> Iterable[str]:
    """Suffixes of images as they are written, the usual ones first."""
    usual = (".jpg", ".png", ".jpeg", ".webp", ".tif", ".bmp", ".tiff", ".gif")
    return (*usual, *(suffix.upper() for suffix in usual))


def _fits(root: Path, cells: Sequence[str], placement: Placement) -> bool:
    first = _is_image(root, placement.name(cells[0]))
    if not first and not _is_image(root, placement.name(cells[-1])):
        return False
    count = sum(_is_image(root, placement.name(cell)) for cell in cells)
    return count >= SHARE * len(cells)


def _is_image(root: Path, name: str) -> bool:
    if suffix_of(name) not in SUFFIXES or name.startswith("/") or ".." in name.split("/"):
        return False
    try:
        return (root / name).is_file()
    except OSError:
        return False
