"""The recipe of one long text, by its length."""

import pytest

from thalweg.models.build import build_model
from thalweg.planning.checks import check_recipe
from thalweg.planning.make_plan import recipe_for
from thalweg.recipes.facts import DataFacts


def facts(tokens, *, context, vocabulary=65):
    counts = {"train": tokens // context, "val": tokens // 9 // context, "test": 0}
    return DataFacts(
        modality="text",
        task="next-token",
        input_shape=(context,),
        num_classes=1,
        counts=counts,
        vocabulary=vocabulary,
        tokens=tokens,
        token_noun="character",
    )


@pytest.mark.parametrize(
    ("tokens", "context", "weights"),
    [(1_000, 16, 120_000), (100_000, 32, 400_000), (1_000_000, 256, 2_000_000)],
)
def test_longer_texts_get_larger_networks_and_all_can_be_trained(tokens, context, weights):
    recipe = recipe_for(facts(tokens, context=context))
    check_recipe(recipe, facts(tokens, context=context))
    changes = recipe.model.changes
    model = build_model(recipe.model.name, 65, input_shape=(context,), changes=changes)
    size = sum(weight.numel() for weight in model.parameters())
    assert weights / 4 < size < weights
    assert recipe.budget.steps <= 30 * max(1, -(-(tokens // context) // recipe.batch.size))
    assert 1 <= recipe.evaluation.steps <= recipe.budget.steps


def test_a_step_reads_enough_tokens_for_muon():
    for tokens, context in ((100_000, 32), (1_000_000, 256), (20_000_000, 256)):
        assert recipe_for(facts(tokens, context=context)).batch.size * context >= 2_048
