"""Rows of a table, with a class or a number each."""

from collections.abc import Mapping

from thalweg.recipes.amount import batch_size, epochs
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import (
    BatchRecipe,
    BudgetRecipe,
    Changes,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
)

MOST_BINS, LEAST_BINS = 16, 4  # of a number; fewer than the least are of no use
MOST_FEATURES = 768  # of all numbers together
EMBEDDED = 16  # entries of a category, from which on it is embedded
FEW, SOME = 2_000, 8_000  # training rows


def vectors(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """A network with piecewise-linear numbers and embedded categories, trained by AdamW.

    Numbers in pieces let a network bend as often as trees do: Gorishniy et al. 2022,
    arXiv:2203.05556. Strong weight decay and dropout suit small tables: Kadra et al. 2021,
    arXiv:2106.11189. The average of the weights stands in for an ensemble: on a validation split of
    some hundred rows, the best of many noisy epochs would be a lucky one.
    Measured beside gradient-boosted trees by benchmarks/tables.py.
    """
    samples = facts.counts["train"]
    size = batch_size(samples, largest=256)
    updates = 800 if samples < FEW else 1_500 if samples < SOME else 4_000
    return Recipe(
        model=ModelRecipe(name="tabular", changes=_network(facts)),
        optimizer=OptimizerRecipe(
            name="adamw", lr=2e-3, weight_decay=0.2, momentum=0.9, ema_decay=0.99
        ),
        batch=BatchRecipe(size=size),
        budget=BudgetRecipe(epochs=epochs(samples, batch=size, updates=updates, least=10, most=60)),
    )


def _network(facts: DataFacts) -> Changes:
    samples, numbers = facts.counts["train"], facts.num_numbers
    bins = min(MOST_BINS, MOST_FEATURES // max(1, numbers))
    embedded = [size for size in facts.categories if size > EMBEDDED]
    changes: dict[str, int | float | str | bool] = {
        "width": 128 if samples < FEW else 256,
        "depth": 2,
        "dropout": 0.2 if samples < SOME else 0.05,
    }
    if numbers and bins >= LEAST_BINS:
        changes |= {"numbers": numbers, "bins": bins}
    if embedded:
        changes["categories"] = ",".join(map(str, embedded))
    return changes
