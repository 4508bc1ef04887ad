"""A renaming of classes is evidence only where chance does not explain it."""

from math import exp, isclose

import pytest
import torch

from thalweg.observe.class_renaming import MOST_CHANCE, best_renaming
from thalweg.statistics import log_binomial_tail


def test_the_tail_of_the_binomial_is_exact():
    """Of 10 throws of a coin, 8 or more are heads in 56 of 1,024 cases."""
    assert isclose(exp(log_binomial_tail(8, 10, 0.5)), 56 / 1024)
    assert log_binomial_tail(0, 5, 0.3) == 0.0
    assert isclose(exp(log_binomial_tail(5, 5, 0.3)), 0.3**5)


@pytest.mark.parametrize(("samples", "is_told"), [(1, False), (3, False), (12, False), (40, True)])
def test_a_perfect_renaming_of_few_samples_is_not_told(samples, is_told):
    classes = torch.arange(samples) % 2
    renaming = best_renaming(classes, 1 - classes, num_classes=2)
    assert renaming.accuracy == 1
    assert renaming.can_be_told == (renaming.chance < MOST_CHANCE) == is_told


def test_a_constant_answer_is_no_renaming():
    """It agrees with the other class's share under a renaming, however many samples there are."""
    classes = torch.tensor([0] * 30 + [1] * 70)
    renaming = best_renaming(classes, torch.zeros(100, dtype=torch.int64), num_classes=2)
    assert renaming.accuracy == 0.7
    assert renaming.chance > 0.1


def test_the_chance_is_that_of_all_equally_likely_predictions():
    """Of the 2⁸ predictions for 8 samples, one agrees under each of the 2 renamings."""
    classes = torch.arange(8) % 2
    assert isclose(best_renaming(classes, 1 - classes, num_classes=2).chance, 2 / 2**8)
