"""Claim a new run folder, and tell one from another folder."""

import os
import re
from pathlib import Path
from unicodedata import normalize

from thalweg.errors import UsageError
from thalweg.record.schema import DATABASE

CROSS_VALIDATION = "cross_validation.json"  # in the folder of the runs, one a fold
LONGEST = 48  # characters of a stem; with the number, a name stays below the 64 of an id


def claim_run_folder(parent: Path, stem: str) -> Path:
    """Make a new empty folder such as runs/flowers-1, which no other process gets.

    Raises UsageError where no folder can be made.
    """
    name = run_id(stem)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = max((_number(path, name) for path in parent.iterdir()), default=0) + 1
        while True:
            folder = parent / f"{name}-{number}"
            try:
                folder.mkdir()
            except FileExistsError:  # another process was quicker
                number += 1
            else:
                return folder
    except OSError as error:
        raise UsageError(
            f"no run can be made in {parent}", seen=str(error), fix="choose another --out"
        ) from error


def check_parent(parent: Path) -> None:
    """Raise UsageError where no folder can be made in `parent`, which need not exist. Writes none.

    For callers with much to do before they claim a folder.
    """
    nearest = next(path for path in (parent, *parent.absolute().parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return
    seen = f"{nearest} is not writable" if nearest.is_dir() else f"{nearest} is no folder"
    raise UsageError(f"no run can be made in {parent}", seen=seen, fix="choose another --out")


def run_id(stem: str) -> str:
    """The stem in letters safe in a path, URL and option: a-z, 0-9 and the hyphen."""
    plain = normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST].strip("-") or "run"


def is_run(path: Path) -> bool:
    """Return whether the folder holds a run."""
    return (path / DATABASE).is_file()


def _number(path: Path, name: str) -> int:
    match = re.fullmatch(re.escape(name) + r"-(\d{1,9})", path.name)
    return int(match[1]) if match else 0
