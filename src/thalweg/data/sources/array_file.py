"""Arrays: an .npz with inputs and targets, or an .npy beside its targets' .npy."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

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
    arrays = _read(path)
    pairs = _pairs(arrays, path)
    targets = [_column(arrays[pair.targets], pair.targets) for pair in pairs]
    for pair, values in zip(pairs, targets, strict=True):
        _check_lengths(pair, arrays[pair.inputs], values)
    inputs = _concatenated([arrays[pair.inputs] for pair in pairs], path)
    splits = [np.full(len(v), p.split, np.int8) for p, v in zip(pairs, targets, strict=True)]
    return _samples(
        inputs, np.concatenate(targets), splits=np.concatenate(splits), path=path, pair=pairs[0]
    )


def _samples(
    inputs: np.ndarray, targets: np.ndarray, *, splits: np.ndarray, path: Path, pair: _Pair
) -> Samples:
    numeric = targets.dtype.kind in "biuf"
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
        labels=targets.astype(np.float64) if numeric else _text_labels(targets),
        splits=splits,
        label_place=f"the array {pair.targets}",
        quarantined=bad,
        notes=notes,
    )


def _text_labels(targets: np.ndarray) -> Labels:
    texts, codes = np.unique(targets, return_inverse=True)
    words = [t.decode(errors="replace") if isinstance(t, bytes) else str(t) for t in texts]
    return Labels(codes.astype(np.int64), tuple(words))


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
    """Targets as one number or word a sample: [n], [n, 1], or one-hot [n, classes]."""
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim == 2 and ((targets == 0) | (targets == 1)).all() and _is_one_hot(targets):
        return targets.argmax(axis=1)
    if targets.ndim != 1:
        raise DataError(
            f"the array {name} holds more than one target for each sample",
            seen=f"shape {'×'.join(map(str, targets.shape))}",
            fix="give one class or one number for each sample",
        )
    return targets


def _is_one_hot(targets: np.ndarray) -> bool:
    return bool((targets.sum(axis=1) == 1).all())


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
