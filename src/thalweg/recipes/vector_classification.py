"""Rows of numbers, one class each."""

from thalweg.data.dataset import DataFacts
from thalweg.recipes.amount import batch_size, epochs
from thalweg.recipes.recipe import (
    BatchRecipe,
    BudgetRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    TaskRecipe,
)


def vector_classification(facts: DataFacts) -> Recipe:
    """Two hidden layers with AdamW; dropout, smoothing and epochs suit the number of samples.

    Well regularised plain networks hold their own on tables: Kadra et al. 2021, arXiv:2106.11189.
    """
    samples = facts.counts["train"]
    small = samples < 5_000
    size = batch_size(samples, largest=128)
    return Recipe(
        model=ModelRecipe(
            name="mlp", changes={"width": 256, "depth": 2, "dropout": 0.3 if small else 0.1}
        ),
        task=TaskRecipe(label_smoothing=0.1 if small else 0.0),
        optimizer=OptimizerRecipe(name="adamw", lr=1e-3, weight_decay=0.05, momentum=0.9),
        batch=BatchRecipe(size=size),
        budget=BudgetRecipe(
            epochs=epochs(samples, batch=size, updates=1_000 if small else 4_000, least=10, most=50)
        ),
    )
