"""The renaming of classes under which most predictions agree, and whether chance explains it."""

from math import exp, lgamma
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.statistics import log_binomial_tail

MOST_CHANCE = 1e-4  # with which some renaming may fit predictions that know nothing of the classes


class Renaming(NamedTuple):
    """A one-to-one renaming of classes, as it fits predictions."""

    accuracy: float  # share of the predictions that agree after it
    chance: float  # bound of the probability that any renaming fits independent predictions so well
    can_be_told: bool  # so many samples that a perfect fit would be no chance


def best_renaming(classes: Tensor, guesses: Tensor, *, num_classes: int) -> Renaming:
    """The renaming found greedily in the confusion matrix, with the chance of so good a fit.

    Predictions that are independent of the classes agree with a sample under one renaming with a
    probability of Σ pₖ·qₖ or less, both shares in falling order (rearrangement inequality). Over
    all renamings the chance is num_classes! times the binomial tail, or less (union bound); the
    shares are those of the samples themselves, for which the limit has a margin.
    """
    width = max(num_classes, int(classes.max()) + 1)
    table = torch.bincount(classes * width + guesses, minlength=width**2).view(width, width)
    total = len(classes)
    true, predicted = (
        table.sum(axis).double().sort(descending=True).values / total for axis in (1, 0)
    )
    agreement, renamings = float(true @ predicted), lgamma(width + 1)

    def chance(right: int) -> float:
        return exp(min(0.0, renamings + log_binomial_tail(right, total, agreement)))

    right = _greedy_agreement(table.clone())
    return Renaming(right / total, chance(right), chance(total) < MOST_CHANCE)


def _greedy_agreement(table: Tensor) -> int:
    """The predictions that agree where the largest entries of the matrix are paired first."""
    width, right = len(table), 0
    for _ in range(width):
        best = int(table.argmax())
        right += int(table.view(-1)[best])
        table[best // width, :], table[:, best % width] = 0, 0
    return right
