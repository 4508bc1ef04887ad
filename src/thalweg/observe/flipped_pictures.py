"""Tell if targets are flipped and turned as their pictures are, by reading samples several times.

A data set that augments at random gives another picture at each reading. Where two readings of a
sample are each other's mirror image, a mask has to be mirrored as well, and a box has to move.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from thalweg.observe.correlation import correlation

READINGS = 4  # of a sample
FEW, MANY = 4, 48  # samples: to see if anything is flipped at all, and then
LEAST_SIDE = 8  # pixels
ALIKE = 0.95  # correlation of two pictures that show the same
CLEARLY = 0.2  # by how much the flipped picture fits better than the picture as it is
LEAST_POSITIONS = 12  # samples that show if a number is a position
IS_POSITION = 0.6  # correlation of its distance from the middle with that of the picture's content
MOST_NUMBERS = 8  # of a target that may be a place in the picture
Transform = Callable[[Tensor], Tensor]


def _turned(quarters: int) -> Transform:
    return lambda picture: torch.rot90(picture, quarters, (-2, -1))


TRANSFORMS: dict[str, Transform] = {
    "flipped": lambda picture: picture.flip(-1),
    "upside down": lambda picture: picture.flip(-2),
    "turned by 90°": _turned(1),
    "turned by 180°": _turned(2),
    "turned by 270°": _turned(3),
}


class FlippedPictures(NamedTuple):
    """Pairs of readings with the picture transformed between them, and what their targets did."""

    transformed: int
    followed: int
    stayed: int


class _Pair(NamedTuple):
    """Two readings of one sample; the second picture is the first one, transformed."""

    picture: Tensor
    target: Tensor
    later_target: Tensor
    transform: Transform


def flipped_pictures(
    loader: Iterable[Any], split: Callable[[Any], tuple[Tensor | None, Tensor | None]]
) -> FlippedPictures | None:
    """Read samples of the loader's data set again; None where none is flipped or turned.

    `split` gives the inputs and the targets of an item. The random state is the caller's to keep.
    """
    pairs = list(_transformed_pairs(loader, split))
    if not pairs:
        return None
    masks = [pair for pair in pairs if _is_spatial(pair)]
    if masks:
        return _of_masks(masks)
    stayed = [pair for pair in pairs if torch.equal(pair.target, pair.later_target)]
    if _are_positions(stayed):
        return FlippedPictures(len(pairs), len(pairs) - len(stayed), len(stayed))
    return None


def _transformed_pairs(
    loader: Iterable[Any], split: Callable[[Any], tuple[Tensor | None, Tensor | None]]
) -> Iterator[_Pair]:
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return
    data: Any = loader.dataset
    transformed = 0
    for number, index in enumerate(np.linspace(0, len(data) - 1, MANY).astype(int).tolist()):
        if number == FEW and not transformed:
            return
        readings = _readings(data, index, split)
        if not readings:
            return
        pair = _first_pair(readings)
        if pair is not None:
            transformed += 1
            yield pair


def _readings(
    data: Any, index: int, split: Callable[[Any], tuple[Tensor | None, Tensor | None]]
) -> list[tuple[Tensor, Tensor]]:
    """Several readings of a picture with its target; none, after the first, of anything else."""
    readings: list[tuple[Tensor, Tensor]] = []
    for _ in range(READINGS):
        try:
            picture, target = split(_as_tensors(data[index]))
        except Exception:  # its sampler knows other keys than numbers
            return []
        if picture is None or target is None or not _is_picture(picture):
            return []
        readings.append((picture, target))
    return readings


def _as_tensors(item: Any) -> Any:
    """The item with its arrays and numbers as tensors, as the loader's collation makes them."""
    if isinstance(item, dict):
        return {key: _as_tensor(value) for key, value in item.items()}
    if isinstance(item, (tuple, list)):
        return [_as_tensor(value) for value in item]
    return item


def _as_tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(value))
    return torch.tensor(value) if isinstance(value, float) else value


def _first_pair(readings: list[tuple[Tensor, Tensor]]) -> _Pair | None:
    first, target = readings[0]
    for later, later_target in readings[1:]:
        if later.shape != first.shape or later_target.shape != target.shape:
            continue
        transform = _transform_between(first, later)
        if transform is not None:
            return _Pair(first, target, later_target, transform)
    return None


def _is_picture(inputs: Tensor) -> bool:
    """True for [height, width] or [channel, height, width] of real numbers or bytes."""
    if inputs.ndim not in (2, 3) or min(inputs.shape[-2:]) < LEAST_SIDE:
        return False
    return inputs.is_floating_point() or inputs.dtype == torch.uint8


def _transform_between(first: Tensor, later: Tensor) -> Transform | None:
    """The one that clearly makes the later picture of the first; brightness may differ."""
    as_it_is = correlation(first, later)
    fits = {
        name: correlation(transform(first), later)
        for name, transform in TRANSFORMS.items()
        if transform(first).shape == later.shape
    }
    best = max(fits, key=lambda name: fits[name])
    if fits[best] < ALIKE or fits[best] - as_it_is < CLEARLY:
        return None
    return TRANSFORMS[best]


def _is_spatial(pair: _Pair) -> bool:
    return pair.target.ndim >= 2 and pair.target.shape[-2:] == pair.picture.shape[-2:]


def _of_masks(pairs: list[_Pair]) -> FlippedPictures:
    """Count masks that moved and masks that did not; a symmetric one shows neither."""
    moved = stayed = 0
    for _, target, later, transform in pairs:
        own = transform(target)
        if torch.equal(own, target):
            continue
        moved += torch.equal(later, own)
        stayed += torch.equal(later, target)
    return FlippedPictures(moved + stayed, moved, stayed)


def _are_positions(pairs: list[_Pair]) -> bool:
    """True if a number of the targets tells where in the picture its content lies.

    Which of two mirror images a target belongs to is not known: so the distances from the middle
    are compared. Those of an age or a class do not go with the picture's.
    """
    targets = [pair.target.flatten() for pair in pairs if pair.target.is_floating_point()]
    sizes = {len(target) for target in targets}
    if len(targets) < max(LEAST_POSITIONS, len(pairs)) or len(sizes) != 1:
        return False
    if max(sizes) > MOST_NUMBERS:
        return False
    numbers = torch.stack(targets).double()
    away = (numbers - numbers.mean(0)).abs()
    centres = torch.stack([_centre(pair.picture) for pair in pairs]).abs()
    return any(
        correlation(away[:, column], centres[:, axis]) > IS_POSITION
        for column in range(away.shape[1])
        for axis in range(2)
    )


def _centre(picture: Tensor) -> Tensor:
    """The centre of what differs from the background, from the picture's middle [down, right]."""
    flat = picture.double().reshape(-1, *picture.shape[-2:])
    weight = (flat - flat.flatten(1).median(1).values[:, None, None]).square().sum(0)
    total = weight.sum().clamp_min(1e-30)
    down, right = (torch.linspace(-1, 1, side, dtype=torch.double) for side in weight.shape)
    return torch.stack([(weight.sum(1) @ down) / total, (weight.sum(0) @ right) / total])
