"""Data in memory → a file that a run is made from, and can be resumed and scored from."""

import csv
import io
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.tables.frames import array_cells, column_texts, frame_cells, is_frame
from thalweg.errors import UsageError
from thalweg.files import draft_of, replace_file

FOLDER = "data"  # beside the runs
TEXT = "text"  # the name of a column of texts
TARGET = "target"  # the name of a column of targets that has none


def save_in_memory(data: Any, targets: Any, folder: Path) -> tuple[Path, str]:
    """Save inputs and targets beside the runs in `folder`; return the file and its target column.

    A data frame becomes a CSV, an array an .npz; equal data become one file. Without `targets` a
    data frame holds them itself, and the name is "".
    """
    if is_frame(data):
        cells = frame_cells(data)
        return _save_table(cells, targets, folder)
    if _are_texts(data):  # an array of them would take the longest one's bytes for each
        if targets is None:
            raise _without_targets(f"a list of {len(data):,} texts")
        return _save_table({TEXT: list(data)}, targets, folder)
    inputs = as_array(data, name="the inputs")
    if targets is None:
        shape = "×".join(map(str, inputs.shape))
        raise _without_targets(f"{type(data).__name__}, shape {shape}")
    if inputs.ndim == 1:
        inputs = inputs[:, None]
    if inputs.dtype.kind in "OUS" and inputs.ndim == 2:
        return _save_table(array_cells(inputs), targets, folder)
    return _save_arrays(inputs, _target_array(targets), folder), ""


def _are_texts(data: Any) -> bool:
    return isinstance(data, list | tuple) and bool(data) and all(isinstance(x, str) for x in data)


def _without_targets(seen: str) -> UsageError:
    return UsageError("inputs without targets", seen=seen, fix="thalweg.train(inputs, targets)")


def as_array(data: Any, *, name: str) -> np.ndarray:
    """The array of a tensor, an array, a series or nested lists. Raises UsageError for others."""
    if hasattr(data, "detach"):  # a tensor, which may be on a device or need gradients
        data = data.detach().cpu()
        data = data.float() if str(data.dtype) == "torch.bfloat16" else data
    try:
        array = np.asarray(data)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} are no array", seen=f"{type(data).__name__}: {error}", fix="rows of one length"
        ) from error
    if array.ndim == 0:
        raise UsageError(
            f"{name} are no array",
            seen=type(data).__name__,
            fix="a path, a data frame, an array, a tensor or a list",
        )
    return array


def _target_array(targets: Any) -> np.ndarray:
    if is_frame(targets):
        columns = list(targets.columns)
        if len(columns) != 1:
            raise UsageError(
                "one target a sample is needed",
                seen=f"a data frame of {len(columns)} columns",
                fix="give one column",
            )
        targets = targets[columns[0]]
    array = as_array(targets, name="the targets")
    return array.astype(str) if array.dtype.kind == "O" else array


def _save_table(cells: dict[str, list[str]], targets: Any, folder: Path) -> tuple[Path, str]:
    name = ""
    if targets is not None:
        name = str(getattr(targets, "name", None) or TARGET)
        if name in cells:
            raise UsageError(
                "the targets are also a column of the inputs",
                seen=f"column {name!r}",
                fix=f"leave it out of the inputs, or pass target={name!r} without targets",
            )
        column = _target_array(targets).reshape(-1) if is_frame(targets) else targets
        column = column if not hasattr(column, "detach") else as_array(column, name="the targets")
        cells = {**cells, name: column_texts(np.ravel(column) if _is_array(column) else column)}
    lengths = {len(column) for column in cells.values()}
    if len(lengths) > 1:
        raise UsageError(
            "inputs and targets differ in length",
            seen=f"{min(lengths):,} and {max(lengths):,}",
            fix="give one target for each row",
        )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(cells)
    writer.writerows(zip(*cells.values(), strict=True))
    contents = text.getvalue().encode(errors="surrogatepass")
    path = _path(folder, sha256(contents).hexdigest(), ".csv")
    if not path.exists():
        replace_file(path, contents)
    return path, name


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)


def _save_arrays(inputs: np.ndarray, targets: np.ndarray, folder: Path) -> Path:
    digest = sha256(repr((inputs.shape, inputs.dtype, targets.shape, targets.dtype)).encode())
    digest.update(np.ascontiguousarray(inputs).tobytes())
    digest.update(np.ascontiguousarray(targets).tobytes())
    path = _path(folder, digest.hexdigest(), ".npz")
    if not path.exists():
        with draft_of(path) as draft, draft.open("xb") as file:
            np.savez(file, x=inputs, y=targets)
    return path


def _path(folder: Path, digest: str, suffix: str) -> Path:
    folder = folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"data-{digest[:10]}{suffix}"
