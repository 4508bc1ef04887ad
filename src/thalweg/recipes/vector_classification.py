"""Rows of numbers, one class each."""

from thalweg.data.dataset import DataFacts
from thalweg.recipes.recipe import BatchRecipe, BudgetRecipe, ModelRecipe, OptimizerRecipe, Recipe


def vector_classification(facts: DataFacts) -> Recipe:
    return Recipe(
        model=ModelRecipe(name="mlp", changes={"width": 256, "depth": 2, "dropout": 0.1}),
        optimizer=OptimizerRecipe(name="adamw", lr=1e-3, weight_decay=0.01, momentum=0.9),
        batch=BatchRecipe(size=64),
        budget=BudgetRecipe(epochs=20),
    )
