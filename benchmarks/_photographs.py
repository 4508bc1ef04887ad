"""Folders of photographs to train on, made from real ones: five kinds of flowers, and scenes.

The originals are 224 px JPEGs in ../shared/data (flowers: train and val; flickr8k).
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._peers import NotMeasuredError

DATA = Path(__file__).parents[2] / "shared" / "data"
SIDE = 160  # pixels
QUALITY = 90


def photographs(folder: Path, *, train: int, val: int, side: int = SIDE) -> None:
    """folder/train/CLASS/N.jpg and folder/val/CLASS/N.jpg, so many of each; the same every time.

    Beyond the originals, other crops of them, so that no two files are equal.
    """
    for split, wanted in (("train", train), ("val", val)):
        for number, (name, image) in zip(range(wanted), _crops(split, side), strict=False):
            path = folder / split / name / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=QUALITY)


def _crops(split: str, side: int) -> Iterator[tuple[str, Image.Image]]:
    """Class and picture, without end: whole pictures first, then smaller crops."""
    sources, rng = _sources(split), np.random.default_rng(split == "val")
    for turn in count():
        for index in rng.permutation(len(sources)):
            name, path = sources[index]
            with Image.open(path) as image:
                yield name, _crop(image.convert("RGB"), rng, 1.0 if turn == 0 else 0.8, side=side)


def _crop(image: Image.Image, rng: np.random.Generator, share: float, *, side: int) -> Image.Image:
    seen = round(share * min(image.size))
    left, top = (int(rng.integers(0, length - seen + 1)) for length in image.size)
    return image.resize((side, side), box=(left, top, left + seen, top + seen))


def _sources(split: str) -> list[tuple[str, Path]]:
    found = [(path.parent.name, path) for path in sorted((DATA / "flowers" / split).glob("*/*"))]
    scenes = sorted((DATA / "flickr8k" / "images").glob("*.jpg"))
    if not found or not scenes:
        raise NotMeasuredError(f"the photographs are not in {DATA}")
    half = len(scenes) // 2
    scenes = scenes[:half] if split == "train" else scenes[half:]
    return found + [("scene", path) for path in scenes[: len(found) // 4]]
