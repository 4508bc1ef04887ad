"""CIFAR-10 as two arrays of bytes, from the mosaics that lie beside the project.

Ten training and two test mosaics of 5,000 images each, 100 rows × 50 columns of 32 px, lossless.
$THALWEG_DATA names another folder that holds `cifar10/`.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks._peers import NotMeasuredError

FOLDER = Path(__file__).parents[1].parent / "shared" / "data"


class Cifar10(NamedTuple):
    train: Tensor  # uint8 [50000, 3, 32, 32]
    train_classes: Tensor
    test: Tensor  # uint8 [10000, 3, 32, 32]
    test_classes: Tensor


def cifar10() -> Cifar10:
    folder = Path(os.environ.get("THALWEG_DATA", FOLDER)) / "cifar10"
    if not (folder / "labels.npz").is_file():
        raise NotMeasuredError(f"CIFAR-10 is not in {folder}; THALWEG_DATA names another folder")
    labels = np.load(folder / "labels.npz")
    train, test = (_images(sorted(folder.glob(f"{part}_*.webp"))) for part in ("train", "test"))
    classes = (torch.from_numpy(labels[name]).long() for name in ("train_y", "test_y"))
    return Cifar10(train, next(classes), test, next(classes))


def _images(paths: list[Path]) -> Tensor:
    mosaics = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    tiles = [m.reshape(100, 32, 50, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3) for m in mosaics]
    return torch.from_numpy(np.concatenate(tiles)).permute(0, 3, 1, 2).contiguous()
