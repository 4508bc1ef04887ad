"""Each sentence of the advice comes from rungs built for it, and from no others."""

from math import nan
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from thalweg.ladders.advice import advice, error_difference, is_better, rung_to_stop_at
from thalweg.record.ladder import Ladder, Rung

COUNT = 400


def rung(name, kind, score, *, seconds=1.0, train=nan, loss=nan, seed=0):
    """A rung whose errors are spread at random over the samples, as many as its score says."""
    wrong = np.zeros(COUNT)
    wrong[: round((1 - score) * COUNT)] = 1
    errors = tuple(np.random.default_rng(seed).permutation(wrong).tolist())
    return Rung(
        name=name,
        title=name,
        kind=kind,
        score=1 - float(np.mean(errors)),
        low=score - 0.03,
        high=score + 0.03,
        samples=COUNT,
        seconds=seconds,
        train_score=train,
        train_loss=loss,
        chosen="3 of 30 epochs",
        errors=errors,
    )


def ladder_of(*rungs):
    return Ladder(
        path=Path("ladder"),
        source="made",
        task="classification",
        metric="accuracy",
        counts={"train": 1000, "val": COUNT},
        rungs=rungs,
    )


CHANCE = rung("chance", "baseline", 0.1, seconds=0.01, seed=9)


@pytest.mark.parametrize(
    ("rungs", "sentence"),
    [
        pytest.param(
            [rung("softmax", "linear", 0.11)], "No rung is significantly better", id="no signal"
        ),
        pytest.param(
            [
                rung("mlp", "network", 0.5, loss=1.2),
                rung("convnet", "network", 0.6, loss=0.8, seed=1),
                rung("resnet", "network", 0.5, loss=1.4, seed=2),
            ],
            "resnet is worse than mlp on their own training samples (loss 1.4 against 1.2",
            id="optimisation",
        ),
        pytest.param(
            [rung("resnet", "network", 0.6), rung("transfer", "pretrained", 0.9, seed=1)],
            "Pretrained features win (transfer 90.0 %; the best from scratch: resnet 60.0 %)",
            id="pretrained",
        ),
        pytest.param(
            [rung("softmax", "linear", 0.8), rung("mlp", "network", 0.8, seed=1)],
            "A linear model is as good as anything tried",
            id="linear",
        ),
        pytest.param(
            [
                rung("knn", "memory", 0.9),
                rung("softmax", "linear", 0.6, seed=1),
                rung("mlp", "network", 0.9, seed=2),
            ],
            "Nearest neighbours are as good as anything tried (knn 90.0 %; mlp 90.0 %)",
            id="neighbours",
        ),
        pytest.param(
            [
                rung("softmax", "linear", 0.3),
                rung("mlp", "network", 0.6, train=1.0, loss=0.01, seed=1),
            ],
            "mlp knows its training samples (100.0 %) but not new ones (60.0 %)",
            id="overfitting",
        ),
        pytest.param(
            [
                rung("softmax", "linear", 0.3),
                rung("mlp", "network", 0.5, loss=1.3, seed=1),
                rung("convnet", "network", 0.8, train=0.85, loss=0.5, seed=2),
            ],
            "The data need their two dimensions: convolutions reach 80.0 %",
            id="structure",
        ),
        pytest.param(
            [
                rung("softmax", "linear", 0.4),
                rung("hog", "features", 0.6, seed=1),
                rung("mlp", "network", 0.45, seed=2),
            ],
            "Features matter more than capacity here: hog 60.0 % against mlp 45.0 %",
            id="features",
        ),
        pytest.param(
            [rung("softmax", "linear", 0.4), rung("mlp", "network", 0.6, seed=1)],
            "Capacity pays: mlp 60.0 % against softmax 40.0 %",
            id="capacity",
        ),
    ],
)
def test_each_sentence_is_given_for_its_ladder(rungs, sentence):
    assert advice(ladder_of(CHANCE, *rungs)).startswith(sentence)


def test_errors_on_the_same_samples_decide():
    """Intervals of the two scores overlap; the paired comparison is significant. Oracle: scipy."""
    good = rung("good", "linear", 0.80)
    wrong = np.array(good.errors)
    wrong[np.flatnonzero(wrong == 0)[:12]] = 1  # the same mistakes, and twelve more
    worse = Rung(**{**_fields(good), "score": 1 - wrong.mean(), "errors": tuple(wrong.tolist())})
    assert is_better(good, worse)
    assert not is_better(worse, good)
    low, high = error_difference(good, worse)
    test = stats.ttest_rel(good.errors, worse.errors).confidence_interval(0.95)
    assert (low, high) == pytest.approx((test.low, test.high), rel=0.01)


def test_samples_that_one_was_not_scored_on_do_not_count():
    first, second = rung("first", "memory", 0.9), rung("second", "linear", 0.5, seed=1)
    few = Rung(**{**_fields(first), "errors": (*first.errors[:5], *[nan] * (COUNT - 5))})
    assert error_difference(few, second) == (-float("inf"), float("inf"))
    assert not is_better(few, second)


def test_quickest_of_the_best_is_rung_to_stop_at():
    slow, quick = rung("slow", "network", 0.81, seconds=60), rung("quick", "linear", 0.8, seed=1)
    poor = rung("poor", "memory", 0.5, seconds=0.1, seed=2)
    assert rung_to_stop_at(ladder_of(poor, quick, slow)).name == "quick"
    assert rung_to_stop_at(ladder_of()) is None
    assert advice(ladder_of(CHANCE)) == ""


def _fields(rung):
    return {name: getattr(rung, name) for name in rung.__slots__}


def test_pretrained_features_are_the_advice_where_short_networks_lag():
    """Networks that had no time are behind for that alone; what wins is said first."""
    ladder = ladder_of(
        CHANCE,
        rung("transfer", "pretrained", 0.94, seed=3),
        rung("mlp", "network", 0.44, loss=1.2),
        rung("convnet", "network", 0.2, loss=1.6, seed=1),
    )
    assert advice(ladder).startswith("Pretrained features win")
