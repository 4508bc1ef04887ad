"""Features of a frozen network, computed once an image and cached beside the decoded pixels.

The file of one view holds a row for each image: the features as float32, and a checksum. A row
whose checksum is wrong is computed again, so a killed run continues where it stopped, and a damaged
file repairs itself.
"""

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.data import Augment, Dataset
from thalweg.data.images.augment import Draws
from thalweg.data.images.cache import FEATURES
from thalweg.training.frozen_forward import (
    BATCH,
    WAYS,
    FrozenForward,
    fastest_forward,
    forward_by,
)

View = Literal["plain", "mirrored", "enlarged", "enlarged and mirrored"]
VIEWS: tuple[View, ...] = ("plain", "mirrored", "enlarged", "enlarged and mirrored")
ENLARGED_AREA = 0.73  # share of the picture: the middle 192 of 224 px
AUTOTUNE_IMAGES = 8  # on which candidates for the forward pass are timed
AUTOTUNE_FROM = 64  # images; for fewer, autotuning takes longer than it saves
VERSION = 2  # increase it when features change
_CHECKSUM = 4  # bytes a row


class Extractor:
    """A frozen network over the images of one data set, with the features computed so far."""

    def __init__(
        self,
        model: nn.Module,  # images → [n, dim], in evaluation mode, convolutions channels-last
        *,
        dim: int,
        dataset: Dataset,
        device: torch.device,
        key: str,  # which weights and preprocessing: `weights_digest`
        progress: Callable[[int, int], None],
        way: str = "",  # one of WAYS, by which the run's features were computed before
    ) -> None:
        self.key, self.way = key, way if way in WAYS else ""
        self._forward: FrozenForward | None = None  # until the first features are computed
        self._model, self._dim, self._dataset = model, dim, dataset
        self._device, self._progress = device, progress
        self._stores: dict[View, _Store] = {}

    def features(
        self, rows: np.ndarray, views: Sequence[View] = ("plain",)
    ) -> Float[Tensor, "n d"]:
        """Features of these rows of the data set: all of the first view, then of the next."""
        self.way = self.way or self._choose(rows)
        stores = [self._store(view) for view in views]
        missing = [store.missing(rows) for store in stores]
        total, done, size = sum(map(len, missing)), 0, BATCH.get(self._device.type, 64)
        forward = self._forward_on(rows) if total else None
        for view, store, rest in zip(views, stores, missing, strict=True):
            for start in range(0, len(rest), size):
                chunk = rest[start : start + size]
                assert forward is not None
                store.write(chunk, forward(self._inputs(chunk, view)).cpu().numpy())
                done += len(chunk)
                self._progress(done, total)
        return torch.from_numpy(np.concatenate([store.read(rows) for store in stores]))

    def _choose(self, rows: np.ndarray) -> str:
        """The way that features are stored by already; else the fastest, for many images.

        One way decides the last bits of the features, and so of the weights: the same command on
        the same machine keeps to it.
        """
        for way in WAYS:
            path = self._path("plain", way)
            if path is not None and path.exists():
                return way
        if len(rows) < AUTOTUNE_FROM:
            return WAYS[0]
        self._forward = fastest_forward(self._model, self._inputs(rows[:AUTOTUNE_IMAGES], "plain"))
        return self._forward.way

    def _forward_on(self, rows: np.ndarray) -> FrozenForward:
        if self._forward is None:
            images = self._inputs(rows[:AUTOTUNE_IMAGES], "plain")
            self._forward = forward_by(self.way, self._model, images)
        return self._forward

    def _inputs(self, rows: np.ndarray, view: View) -> Tensor:
        raw = torch.from_numpy(self._dataset.inputs.take(rows, axis=0)).to(self._device)
        return self._dataset.preprocessing.to_inputs(_transformed(raw, view))

    def _store(self, view: View) -> "_Store":
        """The store beside the cached pixels, replaced and deleted with them; else in memory."""
        if view not in self._stores:
            path = self._path(view, self.way)
            self._stores[view] = _Store(path, images=len(self._dataset.inputs), dim=self._dim)
        return self._stores[view]

    def _path(self, view: View, way: str) -> Path | None:
        pixels: Any = self._dataset.inputs
        name = getattr(pixels, "filename", None)
        file = f"{FEATURES}{self.key}-{WAYS.index(way)}-{VIEWS.index(view)}"
        return Path(name).with_name(file) if name else None


def _transformed(raw: Tensor, view: View) -> Tensor:
    """The pixels [n, h, w, c], mirrored or enlarged as the view asks."""
    if "enlarged" in view:
        middle = torch.full((len(raw),), 0.5, device=raw.device)
        draws = Draws(*[middle] * len(Draws._fields))._replace(area=torch.zeros_like(middle))
        raw = Augment(crop_scale=ENLARGED_AREA).crop_and_flip(raw, draws)
    return raw.flip(2) if "mirrored" in view else raw


def weights_digest(model: nn.Module, *, about: object, without: str) -> str:
    """Hash of `about` and of all weights but those whose names begin with `without`."""
    hashed = blake2b(repr((VERSION, about)).encode(), digest_size=8)
    for name, value in model.state_dict().items():
        if not name.startswith(without):
            hashed.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


class _Store:
    """The features of one view, in a file or, if none can be had, in memory."""

    def __init__(self, path: Path | None, *, images: int, dim: int) -> None:
        self._shape = images, 4 * dim + _CHECKSUM
        self._bytes = self._mapped(path)

    def _mapped(self, path: Path | None) -> np.ndarray:
        size = self._shape[0] * self._shape[1]
        if path is None:
            return np.zeros(self._shape, dtype=np.uint8)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                # Reserve all space now: a full disk raises here, not as a bus error later.
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
            return np.memmap(path, dtype=np.uint8, mode="r+", shape=self._shape)
        except OSError:  # a full disk or somebody else's cache costs only time
            return np.zeros(self._shape, dtype=np.uint8)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """The rows that are not stored, or not whole."""
        return np.array([row for row in rows.tolist() if not self._is_whole(row)], dtype=np.int64)

    def _is_whole(self, row: int) -> bool:
        stored = self._bytes[row]
        check = int.from_bytes(stored[-_CHECKSUM:].tobytes(), "little")
        return check != 0 and check == _checksum(stored[:-_CHECKSUM])

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        for row, value in zip(rows.tolist(), values, strict=True):
            stored = np.frombuffer(value.astype(np.float32).tobytes(), dtype=np.uint8)
            self._bytes[row, :-_CHECKSUM] = stored
            check = _checksum(stored).to_bytes(_CHECKSUM, "little")
            self._bytes[row, -_CHECKSUM:] = np.frombuffer(check, dtype=np.uint8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, d]."""
        return np.ascontiguousarray(self._bytes[rows, :-_CHECKSUM]).view(np.float32)


def _checksum(stored: np.ndarray) -> int:
    return crc32(stored.tobytes()) or 1
