"""What a frozen network makes of every image: computed once, kept beside the decoded pixels.

The file of one view holds a row for each image: the features as float32, and a check of their
bytes. A row whose check does not hold was never written whole, and is computed again: so a run that
is killed halfway goes on where it stopped, and a damaged file is mended.
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
from thalweg.training.quick_forward import BATCH, Way, quickest

View = Literal["plain", "mirrored", "enlarged", "enlarged and mirrored"]
VIEWS: tuple[View, ...] = ("plain", "mirrored", "enlarged", "enlarged and mirrored")
ENLARGED_AREA = 0.73  # share of the picture: the middle 192 of 224 px
PROBE = 8  # images on which the ways to run the network are compared
WORTH_A_PROBE = 64  # images; for fewer, choosing would take longer than the choice gains
VERSION = 1  # raised with whatever may change a feature
_CHECK = 4  # bytes a row


class Extractor:
    """A frozen network over the images of one data set, and what it has made of them so far."""

    def __init__(
        self,
        model: nn.Module,  # images → [n, dim], in evaluation mode, convolutions channels-last
        *,
        dim: int,
        dataset: Dataset,
        device: torch.device,
        key: str,  # which weights and preprocessing: `weights_digest`
        progress: Callable[[int, int], None],
    ) -> None:
        self.key, self.way = key, Way(model)  # until another is measured
        self._model, self._dim, self._dataset = model, dim, dataset
        self._device, self._progress = device, progress
        self._stores: dict[View, _Store] = {}
        self._measured = False

    def features(
        self, rows: np.ndarray, views: Sequence[View] = ("plain",)
    ) -> Float[Tensor, "n d"]:
        """The features of those rows of the data set: all of the first view, then of the next."""
        stores = [self._store(view) for view in views]
        missing = [store.missing(rows) for store in stores]
        total, done, size = sum(map(len, missing)), 0, BATCH.get(self._device.type, 64)
        self._choose_way(rows, total)
        for view, store, rest in zip(views, stores, missing, strict=True):
            for start in range(0, len(rest), size):
                some = rest[start : start + size]
                found = self.way(self._inputs(some, view))
                store.write(some, found.cpu().numpy())
                done += len(some)
                self._progress(done, total)
        return torch.from_numpy(np.concatenate([store.read(rows) for store in stores]))

    def _choose_way(self, rows: np.ndarray, missing: int) -> None:
        """Once, and where there is enough to do."""
        if missing >= WORTH_A_PROBE and not self._measured:
            self.way = quickest(self._model, self._inputs(rows[:PROBE], "plain"))
            self._measured = True

    def _inputs(self, rows: np.ndarray, view: View) -> Tensor:
        raw = torch.from_numpy(self._dataset.inputs.take(rows, axis=0)).to(self._device)
        return self._dataset.preprocessing.to_inputs(_seen(raw, view))

    def _store(self, view: View) -> "_Store":
        """Beside the pixels, so that both are replaced and deleted together; else in memory."""
        if view not in self._stores:
            pixels: Any = self._dataset.inputs
            name = getattr(pixels, "filename", None)
            path = (
                Path(name).with_name(f"{FEATURES}{self.key}-{VIEWS.index(view)}") if name else None
            )
            self._stores[view] = _Store(path, images=len(pixels), dim=self._dim)
        return self._stores[view]


def _seen(raw: Tensor, view: View) -> Tensor:
    """The pixels [n, h, w, c] as that view shows them."""
    if "enlarged" in view:
        middle = torch.full((len(raw),), 0.5, device=raw.device)
        draws = Draws(*[middle] * len(Draws._fields))._replace(area=torch.zeros_like(middle))
        raw = Augment(crop_scale=ENLARGED_AREA).moved(raw, draws)
    return raw.flip(2) if "mirrored" in view else raw


def weights_digest(model: nn.Module, *, about: object, without: str) -> str:
    """Names the weights but those that begin with `without`, and what else decides the features."""
    hashed = blake2b(repr((VERSION, about)).encode(), digest_size=8)
    for name, value in model.state_dict().items():
        if not name.startswith(without):
            hashed.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


class _Store:
    """The features of one view: in a file, or in memory where there is none to be had."""

    def __init__(self, path: Path | None, *, images: int, dim: int) -> None:
        self._shape = images, 4 * dim + _CHECK
        self._bytes = self._mapped(path)

    def _mapped(self, path: Path | None) -> np.ndarray:
        size = self._shape[0] * self._shape[1]
        if path is None:
            return np.zeros(self._shape, dtype=np.uint8)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                # Reserved at once: a full disk is known here and not as a bus error later.
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
            return np.memmap(path, dtype=np.uint8, mode="r+", shape=self._shape)
        except OSError:  # a full disk, somebody else's cache: only time is lost
            return np.zeros(self._shape, dtype=np.uint8)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows that are not there, or not whole."""
        return np.array([row for row in rows.tolist() if not self._is_whole(row)], dtype=np.int64)

    def _is_whole(self, row: int) -> bool:
        stored = self._bytes[row]
        check = int.from_bytes(stored[-_CHECK:].tobytes(), "little")
        return check != 0 and check == _checked(stored[:-_CHECK])

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        for row, value in zip(rows.tolist(), values, strict=True):
            stored = np.frombuffer(value.astype(np.float32).tobytes(), dtype=np.uint8)
            self._bytes[row, :-_CHECK] = stored
            check = _checked(stored).to_bytes(_CHECK, "little")
            self._bytes[row, -_CHECK:] = np.frombuffer(check, dtype=np.uint8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, d]."""
        return np.ascontiguousarray(self._bytes[rows, :-_CHECK]).view(np.float32)


def _checked(stored: np.ndarray) -> int:
    return crc32(stored.tobytes()) or 1
