"""Splits that leave nothing out and leak nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.classical import Score, cross_validate, folds, repeated_splits
from thalweg.errors import DataError, UsageError


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 80), st.integers(2, 7), st.booleans(), st.integers(0, 9))
def test_every_sample_validates_once_and_trains_otherwise(rows, num_folds, classes, seed):
    num_folds = min(num_folds, rows)
    targets = torch.arange(rows) % 3 if classes else torch.rand(rows)
    splits = folds(targets, num_folds=num_folds, seed=seed)
    held_out = torch.cat([val for _, val in splits])
    assert held_out.sort().values.tolist() == list(range(rows))
    sizes = {len(val) for _, val in splits}
    assert max(sizes) - min(sizes) <= 1
    for train, val in splits:
        assert sorted(train.tolist() + val.tolist()) == list(range(rows))


def test_classes_are_spread_evenly_over_folds():
    targets = torch.tensor([0] * 50 + [1] * 10 + [2] * 5)
    for _, val in folds(targets, num_folds=5, seed=4):
        assert torch.bincount(targets[val]).tolist() == [10, 2, 1]


def test_the_same_seed_gives_the_same_folds():
    targets = torch.arange(30) % 2
    first, again, other = (folds(targets, num_folds=3, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.8])
def test_repeated_splits_hold_out_each_class_s_share(fraction):
    targets = torch.tensor([0] * 400 + [1] * 200 + [2] * 40)
    splits = repeated_splits(targets, repeats=4, val_fraction=fraction)
    assert len({tuple(val.tolist()) for _, val in splits}) == 4
    for train, val in splits:
        assert sorted(train.tolist() + val.tolist()) == list(range(640))
        for count, whole in zip(torch.bincount(targets[val]).tolist(), (400, 200, 40), strict=True):
            assert abs(count - fraction * whole) <= 1


def test_scores_have_mean_and_sample_deviation():
    splits = folds(torch.arange(9.0), num_folds=3)
    score = cross_validate(lambda train, val: float(len(train) + len(val)), splits)
    assert score.values == (9.0, 9.0, 9.0)
    assert (Score((1.0, 2.0, 3.0)).mean, Score((1.0, 2.0, 3.0)).std) == (2.0, 1.0)
    assert Score((5.0,)).std == 0
    assert str(Score((0.5, 0.7))) == "0.6 ± 0.14"


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda: folds(torch.arange(3), num_folds=4), UsageError, "num_folds must lie in 1…3"),
        (lambda: folds(torch.arange(3), num_folds=1), UsageError, "nothing to train on"),
        (lambda: repeated_splits(torch.arange(3), repeats=0), UsageError, "repeats"),
        (
            lambda: repeated_splits(torch.arange(3), repeats=1, val_fraction=1.0),
            UsageError,
            "between 0 and 1",
        ),
        (lambda: repeated_splits(torch.arange(1), repeats=1), DataError, "empty part"),
    ],
)
def test_impossible_splits_are_refused(ask, kind, message):
    with pytest.raises(kind, match=message):
        ask()
