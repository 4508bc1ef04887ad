"""What the samples themselves show: order, balance, copies, gaps, how val differs from train."""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import log2, sqrt

import numpy as np
import torch
from torch import Tensor

from thalweg.observe.instrument import Moment, Reading, instrument, survey
from thalweg.record import Quantity
from thalweg.record.quantities import (
    CLASS_COUNT,
    CLASS_RUN_Z,
    DUPLICATED,
    INPUT_NOT_FINITE,
    LEAKED,
    SHIFT,
    VAL_SAMPLES,
)

WIDEST = 128  # features; more are summed at random to so many
AT_ONCE = 4096  # features: a copy of all of them would be memory that nothing has used yet
SAMPLES_AT_ONCE = 16  # likewise
SHUFFLES = 20  # null draws of the batch-composition test


@survey(CLASS_COUNT, CLASS_RUN_Z, when="samples")
def composition(moment: Moment) -> Mapping[Quantity, Reading]:
    """Class counts, and whether batches hold fewer classes than a shuffled order would give."""
    train = moment.train
    classes = None if train is None else train.classes
    if train is None or classes is None or int(classes.max()) > 10_000:
        return {}
    counts = torch.bincount(classes.clamp_min(0))
    seen: dict[Quantity, Reading] = {
        CLASS_COUNT: {str(k): float(n) for k, n in enumerate(counts.tolist()) if n}
    }
    z = _run_z(classes.numpy(), train.batches)
    if z is not None:
        seen[CLASS_RUN_Z] = {"": z}
    return seen


def _run_z(classes: np.ndarray, batches: tuple[int, ...]) -> float | None:
    """Standard deviations by which the mean number of classes a batch lies under its null."""
    if len(batches) < 4 or max(batches) < 4 or len(np.unique(classes)) < 2:
        return None
    edges = np.cumsum(batches)[:-1]

    def distinct(order: np.ndarray) -> float:
        return float(np.mean([len(np.unique(part)) for part in np.split(order, edges)]))

    draw = np.random.default_rng(0)
    null = [distinct(draw.permutation(classes)) for _ in range(SHUFFLES)]
    spread = max(float(np.std(null)), 0.02)
    return (float(np.mean(null)) - distinct(classes)) / spread


@instrument(INPUT_NOT_FINITE, when="samples")
def gaps(moment: Moment) -> Reading:
    """The share of input numbers that are NaN or infinite."""
    if moment.train is None or not moment.train.inputs.is_floating_point():
        return {}
    inputs = moment.train.inputs
    finite = sum(part.isfinite().count_nonzero() for part in inputs.split(SAMPLES_AT_ONCE))
    return {"": 1 - torch.as_tensor(finite).double() / inputs.numel()}


@survey(LEAKED, DUPLICATED, when="samples")
def copies(moment: Moment) -> Mapping[Quantity, Reading]:
    """Samples that occur twice: within the training split, and across the splits. By hash."""
    train, val = moment.train, moment.val
    if train is None:
        return {}
    ours = train.digests()
    counts = Counter(ours)
    repeated = [i for i, digest in enumerate(ours) if counts[digest] > 1]
    seen: dict[Quantity, Reading] = {DUPLICATED: {"": len(repeated) / len(ours)}}
    if val is not None and len(val) and val.inputs.shape[1:] == train.inputs.shape[1:]:
        known = set(ours)
        theirs = val.digests(as_in=train)
        seen[LEAKED] = {"": sum(digest in known for digest in theirs) / len(theirs)}
    return seen


@survey(SHIFT, VAL_SAMPLES, when="samples")
def shift(moment: Moment) -> Mapping[Quantity, Reading]:
    """How validation inputs differ from training inputs: level, scale, and separability.

    Level and scale are over all numbers of a sample, so that flips, crops and other augmentation
    of the training split hardly show; AUC is of a linear classifier on features, held out.
    """
    train, val = moment.train, moment.val
    if train is None or val is None or not train.inputs.is_floating_point():
        return {}
    if val.inputs.shape[1:] != train.inputs.shape[1:] or min(len(train), len(val)) < 8:
        return {}
    ours, theirs = train.rows().float(), val.rows(as_in=train).float()
    spread = ours.std().double().clamp_min(1e-12)
    ratio = float(theirs.std() / spread)
    level = _mean(theirs) - _mean(ours)
    return {
        VAL_SAMPLES: {"": float(len(val))},
        SHIFT: {
            "level": float(abs(level) / spread),
            "scale": abs(log2(ratio)) if ratio > 0 else 99.0,
            "auc": separability(ours, theirs),
            "noise": sqrt((len(ours) + len(theirs) + 1) / (12 * len(ours) * len(theirs))) * 2,
        },
    }


def _mean(rows: Tensor) -> float:
    """Of all numbers; a sum of so many in float64 alone would copy them all first."""
    return float(rows.mean(1).double().mean())


def separability(ours: Tensor, theirs: Tensor) -> float:
    """Held-out AUC of a ridge classifier between two sets of rows; 0.5 when they are alike."""
    count = min(len(ours), len(theirs))
    pick = np.random.default_rng(0)
    orders = [torch.from_numpy(pick.permutation(len(one))[:count]) for one in (ours, theirs)]
    order = torch.from_numpy(pick.permutation(2 * count))
    side = np.repeat([0.0, 1.0], count)[order.numpy()]

    def columns(start: int) -> Tensor:
        parts = (one[:, start : start + AT_ONCE] for one in (ours, theirs))
        return torch.cat([part[own] for part, own in zip(parts, orders, strict=True)])[order]

    blocks = (_standardised(columns(start)) for start in range(0, ours.shape[1], AT_ONCE))
    scores = _held_out_scores(_projected(blocks, width=ours.shape[1], chance=pick), side)
    positive, negative = scores[side[count:] == 1], scores[side[count:] == 0]
    if not len(positive) or not len(negative):
        return 0.5
    return float((positive[:, None] > negative[None]).mean())


def _standardised(block: Tensor) -> Tensor:
    """Each feature by its own scale."""
    std, mean = torch.std_mean(block, 0, correction=0)
    return block.sub_(mean).div_(std + 1e-9)


def _projected(blocks: Iterator[Tensor], *, width: int, chance: np.random.Generator) -> np.ndarray:
    """The features, given some columns at a time; of many, random sums, which keeps it cheap."""
    if width <= WIDEST:
        return torch.cat(list(blocks), 1).double().numpy()
    total: Tensor | float = 0.0
    for block in blocks:
        drawn = chance.standard_normal(size=(block.shape[1], WIDEST), dtype=np.float32)
        total = total + block @ torch.from_numpy(drawn)
    return torch.as_tensor(total).double().numpy() / WIDEST**0.5


def _held_out_scores(rows: np.ndarray, side: np.ndarray) -> np.ndarray:
    """What a ridge classifier that is fitted to the first half gives the second."""
    half = len(rows) // 2
    design = np.c_[rows, np.ones(len(rows))]
    gram = design[:half].T @ design[:half] + 0.1 * half * np.eye(design.shape[1])
    weights = np.linalg.solve(gram, design[:half].T @ (side[:half] - 0.5))
    scores: np.ndarray = design[half:] @ weights
    return scores
