"""One long text, whose next token a network predicts."""

from collections.abc import Mapping
from math import ceil

from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import (
    BatchRecipe,
    BudgetRecipe,
    EvaluationRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    ScheduleRecipe,
)

VALIDATIONS = 8  # of a training; each reads the whole validation split
TOKENS_A_STEP = 2_048


def language_model(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """A transformer of a width and depth that suit the text's length, trained by Muon.

    A few passes: with more a network of this size begins to learn the text by heart.
    """
    context = facts.input_shape[0]
    size = max(4, TOKENS_A_STEP // context)
    steps_per_epoch = max(1, ceil(facts.counts["train"] / size))
    steps = 1_200
    return Recipe(
        model=ModelRecipe(name="transformer_lm", changes={"width": 128, "depth": 4, "heads": 4}),
        optimizer=OptimizerRecipe(name="muon", lr=0.01, weight_decay=0.01, momentum=0.95),
        schedule=ScheduleRecipe(name="warmup_linear", warmup=0.02),
        batch=BatchRecipe(size=size),
        budget=BudgetRecipe(epochs=ceil(steps / steps_per_epoch), steps=steps),
        evaluation=EvaluationRecipe(steps=ceil(steps / VALIDATIONS)),
    )
