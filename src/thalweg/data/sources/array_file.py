"""Arrays: an .npz with inputs and targets, or an .npy beside its targets' .npy."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from thalweg.data.archives.bounds import RefusedArchiveError, check_total
from thalweg.data.archives.zip_members import unpacked_bytes
from thalweg.data.images.from_arrays import eight_bit_images
from thalweg.data.samples import (
    SPLITS,
    UNSPLIT,
    Labels,
    Quarantined,
    RowNames,
    Samples,
    split_called,
)
from thalweg.errors import DataError

_INPUT_WORDS = ("x", "inputs", "input", "images", "image", "data", "features")
_TARGET_WORDS = ("y", "targets", "target", "labels", "label", "classes")
LARGEST_UNCHECKED = 64 << 20  # bytes, up to which an .npz may unpack into any multiple of its size
_FIX = "call them x and y, or x_train, y_train, x_val, y_val (also inputs, targets; images, labels)"


class _Pair(NamedTuple):
    """Names of an input and a target array that belong together."""

    split: int
    inputs: str
    targets: str


def array_file(path: Path) -> Samples | None:
    """Images or vectors with their targets, split by the names of the arrays."""
    if path.suffix not in {".npz", ".npy"} or not path.is_file():
        return None
    _check_size(path)
    arrays = _read(path)
    pairs = _pairs(arrays, path)
    targets = [_column(arrays[pair.targets], pair.targets) for pair in pairs]
    for pair, values in zip(pairs, targets, strict=True):
        _check_lengths(pair, arrays[pair.inputs], values)
    inputs = _concatenated([arrays[pair.inputs] for pair in pairs], path)
    splits = [np.full(len(v), p.split, np.int8) for p, v in zip(pairs, targets, strict=True)]
    joined = _one_hot_as_classes(_joined(targets, pairs))
    return _samples(inputs, joined, splits=np.concatenate(splits), path=path, pair=pairs[0])


def _samples(
    inputs: np.ndarray, targets: np.ndarray, *, splits: np.ndarray, path: Path, pair: _Pair
) -> Samples:
    is_number = targets.ndim == 1 and targets.dtype.kind in "biuf" and _is_exact(targets)
    good = np.isfinite(targets) if targets.dtype.kind == "f" else np.ones(len(targets), dtype=bool)
    reason = "the target is not a finite number"
    notes: tuple[str, ...] = ()
    if inputs.ndim > 2:
        inputs, finite, notes = eight_bit_images(inputs, path)
        good &= finite
        reason = "the target or a pixel is not a finite number"
    else:
        inputs = np.asarray(inputs, dtype=np.float32).reshape(len(inputs), -1)
    bad = tuple(Quarantined(f"row {row}", reason) for row in np.flatnonzero(~good))
    if bad:
        inputs, targets, splits = inputs[good], targets[good], splits[good]
    return Samples(
        inputs=inputs,
        names=RowNames(np.flatnonzero(good)),
        labels=targets.astype(np.float64) if is_number else _text_labels(targets),
        splits=splits,
        label_place=f"the array {pair.targets}",
        quarantined=bad,
        notes=notes,
    )


def _is_exact(targets: np.ndarray) -> bool:
    """Return whether float64 holds every target: beyond 2⁵³ it would merge classes."""
    if targets.dtype.kind not in "iu" or not len(targets):
        return True
    limit = 2**sys.float_info.mant_dig
    return int(targets.min()) >= -limit and int(targets.max()) <= limit


def _joined(targets: Sequence[np.ndarray], pairs: Sequence[_Pair]) -> np.ndarray:
    """The targets of all splits. Raises DataError where one split has more labels than another."""
    if len({values.shape[1:] for values in targets}) > 1:
        shapes = zip(pairs, targets, strict=True)
        raise DataError(
            "the splits' targets differ in shape",
            seen=", ".join(f"{p.targets} {'×'.join(map(str, t.shape))}" for p, t in shapes),
            fix="give each split the same labels, in the same order",
        )
    return np.concatenate(targets)


def _label_rows(targets: np.ndarray) -> Labels:
    """Labels of rows of zeros and ones, called by the number of their column."""
    rows, codes = np.unique(targets, axis=0, return_inverse=True)
    members = tuple(tuple(map(str, np.flatnonzero(row).tolist())) for row in rows)
    shown = tuple(" + ".join(labels) or "(none)" for labels in members)
    return Labels(codes.reshape(-1).astype(np.int64), shown, members=members)


def _text_labels(targets: np.ndarray) -> Labels:
    if targets.ndim == 2:
        return _label_rows(targets)
    texts, codes = np.unique(targets, return_inverse=True)
    words = [t.decode(errors="replace") if isinstance(t, bytes) else str(t) for t in texts]
    return Labels(codes.astype(np.int64), tuple(words))


def _check_size(path: Path) -> None:
    """Raises RefusedArchiveError for an .npz that unpacks into far more than it holds."""
    if path.suffix != ".npz":
        return
    try:
        num_bytes = unpacked_bytes(path)
    except RefusedArchiveError:
        return  # NumPy says what is damaged
    if num_bytes > LARGEST_UNCHECKED:
        check_total(path, num_bytes, packed=path.stat().st_size)


def _read(path: Path) -> Mapping[str, np.ndarray]:
    """Arrays by name. Pickles are refused, since they can run any code."""
    try:
        if path.suffix == ".npy":
            siblings = sorted(path.parent.glob("*.npy"))
            return {p.stem: open_memmap(p, mode="r") for p in siblings}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # damaged files make NumPy and zipfile raise any kind of error
        raise DataError(
            f"{path} cannot be read as arrays",
            seen=" ".join(str(error).split())[:160] or type(error).__name__,
            fix="save plain numeric or text arrays with numpy.savez; object arrays are refused",
        ) from error


def _pairs(arrays: Mapping[str, np.ndarray], path: Path) -> list[_Pair]:
    roles = {role: name for name in arrays if (role := _role(name)) is not None}
    pairs = [
        _Pair(split, roles[split, "inputs"], roles[split, "targets"])
        for split in (UNSPLIT, *range(len(SPLITS)))
        if (split, "inputs") in roles and (split, "targets") in roles
    ]
    if not pairs:
        shapes = [f"{name} {'×'.join(map(str, a.shape))}" for name, a in arrays.items()]
        raise DataError(
            f"{path} has no inputs with targets", seen=", ".join(shapes) or "nothing", fix=_FIX
        )
    return pairs


def _role(name: str) -> tuple[int, str] | None:
    """Split and part in an array's name: x_train, train_images, y, …"""
    words = name.lower().replace("-", "_").split("_")
    splits = [split_called(word) for word in words]
    rest = [word for word, split in zip(words, splits, strict=True) if split == UNSPLIT]
    if len(rest) != 1:
        return None
    part = "inputs" if rest[0] in _INPUT_WORDS else "targets" if rest[0] in _TARGET_WORDS else ""
    return (max(splits), part) if part else None


def _column(targets: np.ndarray, name: str) -> np.ndarray:
    """Targets of a sample: a number or word, [n] or [n, 1]; zeros and ones, [n, labels]."""
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim == 2 and targets.dtype.kind in "biuf" and _is_zero_or_one(targets):
        return targets.astype(bool)
    if targets.ndim != 1:
        raise DataError(
            f"the array {name} holds more than one target for each sample",
            seen=f"shape {'×'.join(map(str, targets.shape))}",
            fix="give one class or one number for each sample, or 0 and 1 for each of its labels",
        )
    return targets


def _is_zero_or_one(targets: np.ndarray) -> bool:
    return bool(((targets == 0) | (targets == 1)).all())


def _one_hot_as_classes(targets: np.ndarray) -> np.ndarray:
    """The classes, if every sample has exactly one label; else the targets as they are."""
    is_one_hot = targets.ndim == 2 and bool((targets.sum(axis=1) == 1).all())
    return targets.argmax(axis=1) if is_one_hot else targets


def _check_lengths(pair: _Pair, inputs: np.ndarray, targets: np.ndarray) -> None:
    if inputs.ndim == 0 or len(inputs) != len(targets) or not len(targets):
        raise DataError(
            f"the arrays {pair.inputs} and {pair.targets} differ in length, or are empty",
            seen=f"{inputs.shape[:1]} and {len(targets):,} rows",
            fix="give one target for each input",
        )
    if inputs.dtype.kind not in "biuf":
        raise DataError(f"the array {pair.inputs} holds no numbers", seen=f"type {inputs.dtype}")


def _concatenated(inputs: list[np.ndarray], path: Path) -> np.ndarray:
    if len(inputs) == 1:
        return inputs[0]
    if len({array.shape[1:] for array in inputs}) > 1:
        shapes = ", ".join("×".join(map(str, array.shape)) for array in inputs)
        raise DataError(f"{path}: the splits' inputs differ in shape", seen=shapes)
    return np.concatenate(inputs)
