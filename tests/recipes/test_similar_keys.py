"""A word finds the key that it means."""

import pytest

from thalweg.errors import UnknownNameError
from thalweg.recipes.recipe import KEYS, Recipe
from thalweg.recipes.similar_keys import OTHER_NAMES, similar_keys


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("optimizer.learning_rate", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("learning-rate", "optimizer.lr"),
        ("train.lr", "optimizer.lr"),
        ("OPTIMIZER_LEARNING_RATE", "optimizer.lr"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("batch_size", "batch.size"),
        ("bs", "batch.size"),
        ("optimiser.lr", "optimizer.lr"),
        ("num_epochs", "budget.epochs"),
        ("training.epochs", "budget.epochs"),
        ("arch", "model.name"),
        ("img_size", "data.image_size"),
        ("random_state", "seed"),
        ("gradient_accumulation_steps", "batch.accumulate"),
        ("fp16", "precision.dtype"),
        ("clip_grad_norm", "optimizer.max_grad_norm"),
        ("optimizer.learnig_rate", "optimizer.lr"),
        ("optimizer.momentun", "optimizer.momentum"),
    ],
)
def test_meaning_goes_before_spelling(word, key):
    assert similar_keys(word, KEYS)[0] == key
    with pytest.raises(UnknownNameError, match=f"did you mean {key}"):
        Recipe().edited({word: 1})


def test_nothing_is_offered_for_nonsense():
    assert similar_keys("xyzzy", KEYS) == []


def test_no_key_itself_is_answered_with_another():
    assert [key for key in KEYS if similar_keys(key, KEYS)[0] != key] == []


def test_every_other_name_stands_for_one_key_that_exists():
    names = [name for others in OTHER_NAMES.values() for name in others]
    assert [name for name in names if names.count(name) > 1] == []
    assert set(OTHER_NAMES) <= set(KEYS)
    assert all(name.isalnum() and name.islower() for name in names)
