"""Rows of numbers, or images, with a number each."""

from thalweg.data.dataset import DataFacts
from thalweg.recipes.recipe import (
    BatchRecipe,
    BudgetRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    TaskRecipe,
)


def regression(facts: DataFacts) -> Recipe:
    return Recipe(
        model=ModelRecipe(name="mlp", changes={"width": 256, "depth": 3}),
        task=TaskRecipe(name="regression"),
        optimizer=OptimizerRecipe(name="adamw", lr=1e-3, weight_decay=0.01, momentum=0.9),
        batch=BatchRecipe(size=128),
        budget=BudgetRecipe(epochs=20),
    )
