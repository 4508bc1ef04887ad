"""The recipe of pairs of sequences, by their number."""

import pytest

from thalweg.planning.checks import check_recipe
from thalweg.planning.make_plan import recipe_for
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.sequence_pairs import MOST_EPOCHS, STEPS


def facts(train):
    return DataFacts(
        modality="pairs",
        task="sequence",
        input_shape=(9, 12, 30),
        num_classes=1,
        counts={"train": train, "val": train // 4, "test": 0},
        vocabulary=20,
        tokens=8 * train,
        token_noun="word",
        source_noun="word",
    )


@pytest.mark.parametrize("train", [8, 60, 1_000, 13_000, 1_000_000])
def test_the_updates_are_bounded_whatever_the_number_of_pairs(train):
    recipe = recipe_for(facts(train))
    check_recipe(recipe, facts(train))
    an_epoch = -(-train // recipe.batch.size)
    assert 1 <= recipe.budget.epochs <= MOST_EPOCHS
    assert recipe.budget.epochs * an_epoch <= max(an_epoch, STEPS + an_epoch)
    assert 8 <= recipe.batch.size <= 64
    assert 8 <= recipe.budget.epochs / recipe.evaluation.interval <= 16 or train == 1_000_000


def test_validations_follow_the_epochs_that_the_user_names():
    recipe = recipe_for(facts(1_000), {"budget.epochs": 4})
    assert recipe.evaluation.interval == 1
