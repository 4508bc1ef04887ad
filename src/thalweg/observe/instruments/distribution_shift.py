from collections.abc import Iterator
from math import log2, sqrt

import numpy as np
import torch
from torch import Tensor

from thalweg.observe.data_sample import DataSample
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record.quantities import SHIFT, VAL_ACCURACY

WIDEST = 128  # features; more are summed at random to so many
AT_ONCE = 4096  # features: a copy of all of them would be memory that nothing has used yet


@instrument(SHIFT, when="samples")
def distribution_shift(moment: Moment) -> Measurements:
    """Differences of validation inputs from training inputs: level, scale, and separability.

    Level and scale are over all numbers of a sample, so that flips, crops and other augmentation
    of the training split hardly show; AUC is of a linear classifier on features, held out.
    """
    train, val = moment.train, moment.val
    val = _validation_pass(moment) if val is None else val
    if train is None or val is None or not train.inputs.is_floating_point():
        return {}
    if val.inputs.shape[1:] != train.inputs.shape[1:] or min(len(train), len(val)) < 8:
        return {}
    rows, val_rows = train.rows().float(), val.rows(layout_of=train).float()
    spread = rows.std().double().clamp_min(1e-12)
    ratio = float(val_rows.std() / spread)
    level = _mean(val_rows) - _mean(rows)
    return {
        "level": float(abs(level) / spread),
        "scale": abs(log2(ratio)) if ratio > 0 else 99.0,
        "ratio": ratio,
        **({} if moment.val is None or val.is_head_of_classes else _separation(rows, val_rows)),
    }


def _separation(rows: Tensor, val_rows: Tensor) -> dict[str, float]:
    return {
        "auc": separability(rows, val_rows),
        "noise": sqrt((len(rows) + len(val_rows) + 1) / (12 * len(rows) * len(val_rows))) * 2,
    }


def _validation_pass(moment: Moment) -> DataSample | None:
    """Inputs of the last pass without gradient, where an accuracy of it was logged."""
    inputs = None if moment.validation is None else moment.validation.first_input
    if inputs is None or inputs.ndim == 0 or VAL_ACCURACY not in moment.history:
        return None
    return DataSample(inputs=inputs.detach().cpu(), targets=None, batch_sizes=(len(inputs),))


def _mean(rows: Tensor) -> float:
    """The mean of all numbers; a sum of so many in float64 alone would copy them all first."""
    return float(rows.mean(1).double().mean())


def separability(first: Tensor, second: Tensor) -> float:
    """Held-out AUC of a ridge classifier between two sets of rows; 0.5 when they are alike."""
    count = min(len(first), len(second))
    generator = np.random.default_rng(0)
    picks = [torch.from_numpy(generator.permutation(len(one))[:count]) for one in (first, second)]
    order = torch.from_numpy(generator.permutation(2 * count))
    side = np.repeat([0.0, 1.0], count)[order.numpy()]

    def columns(start: int) -> Tensor:
        blocks = (one[:, start : start + AT_ONCE] for one in (first, second))
        return torch.cat([block[pick] for block, pick in zip(blocks, picks, strict=True)])[order]

    blocks = (_standardised(columns(start)) for start in range(0, first.shape[1], AT_ONCE))
    features = _projected(blocks, width=first.shape[1], generator=generator)
    scores = _held_out_scores(features, side)
    positive, negative = scores[side[count:] == 1], scores[side[count:] == 0]
    if not len(positive) or not len(negative):
        return 0.5
    return float((positive[:, None] > negative[None]).mean())


def _standardised(block: Tensor) -> Tensor:
    """Each feature by its own scale."""
    std, mean = torch.std_mean(block, 0, correction=0)
    return block.sub_(mean).div_(std + 1e-9)


def _projected(
    blocks: Iterator[Tensor], *, width: int, generator: np.random.Generator
) -> np.ndarray:
    """The features, given some columns at a time; of many, random sums, which keeps it cheap."""
    if width <= WIDEST:
        return torch.cat(list(blocks), 1).double().numpy()
    total: Tensor | float = 0.0
    for block in blocks:
        directions = generator.standard_normal(size=(block.shape[1], WIDEST), dtype=np.float32)
        total = total + block @ torch.from_numpy(directions)
    return torch.as_tensor(total).double().numpy() / WIDEST**0.5


def _held_out_scores(rows: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Scores of the second half by a ridge classifier that is fitted to the first half."""
    half = len(rows) // 2
    design = np.c_[rows, np.ones(len(rows))]
    gram = design[:half].T @ design[:half] + 0.1 * half * np.eye(design.shape[1])
    weights = np.linalg.solve(gram, design[:half].T @ (side[:half] - 0.5))
    scores: np.ndarray = design[half:] @ weights
    return scores
