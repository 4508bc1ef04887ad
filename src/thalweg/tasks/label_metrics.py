"""Metrics of several labels a sample: of scores, and of the labels that are predicted."""

from math import nan

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def mean_average_precision(
    scores: Float[Tensor, "sample label"], targets: Float[Tensor, "sample label"]
) -> float:
    """The mean over the labels of the average precision; labels that no sample bears are left out.

    Average precision is Σ (R_i − R_{i−1}) P_i over the scores from the highest down, equal scores
    together: the area under the curve of precision over recall, without a choice of threshold.
    """
    present = targets > 0.5
    columns = [i for i in range(targets.shape[1]) if present[:, i].any()]
    if not columns:
        return nan
    areas = [_average_precision(scores[:, i], present[:, i]) for i in columns]
    return sum(areas) / len(areas)


def _average_precision(scores: Float[Tensor, " n"], present: Bool[Tensor, " n"]) -> float:
    scores, order = scores.sort(descending=True)
    right = present[order].cumsum(0).double()
    is_last = torch.ones_like(present)  # of a group of equal scores
    is_last[:-1] = scores[1:] != scores[:-1]
    places = is_last.nonzero()[:, 0]
    precision = right[places] / (places + 1)
    recall = right[places] / right[-1]
    return (recall.diff(prepend=recall.new_zeros(1)) * precision).sum().item()


def macro_f1(holding: Bool[Tensor, "n label"], present: Bool[Tensor, "n label"]) -> float:
    """The mean over the labels of 2 TP / (2 TP + FP + FN); a label of none of these is left out."""
    counts = 2.0 * (holding & present).sum(0).double()
    sizes = (holding.sum(0) + present.sum(0)).double()
    return (counts[sizes > 0] / sizes[sizes > 0]).mean().item()


def micro_f1(holding: Bool[Tensor, "n label"], present: Bool[Tensor, "n label"]) -> float:
    """2 TP / (2 TP + FP + FN) over all labels together: frequent ones decide."""
    size = (holding.sum() + present.sum()).item()
    return 2 * (holding & present).sum().item() / size if size else nan


def exact_match(holding: Bool[Tensor, "n label"], present: Bool[Tensor, "n label"]) -> float:
    """Share of the samples whose every label is right. NaN for no sample."""
    return (holding == present).all(1).double().mean().item()
