"""Rows of a table, with a class or a number each."""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from thalweg.recipes.amount import epochs
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import (
    BatchRecipe,
    BudgetRecipe,
    Changes,
    EvaluationRecipe,
    ModelRecipe,
    OptimizerRecipe,
    PrecisionRecipe,
    Recipe,
    ScheduleRecipe,
)

FINE_BINS, BINS, LEAST_BINS = 32, 16, 4  # of a number; fewer than the least are of no use
FINE_FROM = 4_000  # training rows, whose bins may be fine
MOST_FEATURES = 768  # of all numbers together
EMBEDDED = 16  # entries of a category, from which on it is embedded
FEW, SOME = 2_000, 8_000  # training rows
WIDTH = 128
# A product is over before a second thread has begun; beside another job it takes 20 times as long.
THREADS = 1
VALIDATIONS = 20  # of a run, at most


class Amount(NamedTuple):
    """The length of a training and its strength, by the number of rows."""

    updates: int
    batch: int
    lr: float
    ema_decay: float
    dropout: float


def vectors(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """A network with piecewise-linear numbers and embedded categories, trained by AdamW.

    Numbers in pieces let a network bend as often as trees do: Gorishniy et al. 2022,
    arXiv:2203.05556. Strong weight decay and dropout suit small tables: Kadra et al. 2021,
    arXiv:2106.11189. The average of the weights stands in for an ensemble: on a validation split of
    some hundred rows, the best of many noisy epochs would be a lucky one. Few updates of large
    batches at a high rate: two to four times as many, at a third of the rate in a network twice as
    wide, end no higher.
    Measured beside gradient-boosted trees by benchmarks/tables.py.
    """
    amount = _amount(facts.counts["train"])
    samples, size = facts.counts["train"], amount.batch
    passes = epochs(samples, batch=size, updates=amount.updates, least=10, most=100)
    wish = chosen.get("budget.epochs")
    interval = ceil((wish if isinstance(wish, int) else passes) / VALIDATIONS)
    return Recipe(
        model=ModelRecipe(name="tabular", changes=network_settings(facts, dropout=amount.dropout)),
        optimizer=OptimizerRecipe(
            name="adamw",
            lr=amount.lr,
            weight_decay=0.2,
            momentum=0.9,
            ema_decay=amount.ema_decay,
            changes={"beta2": 0.99},
        ),
        schedule=ScheduleRecipe(name="cosine"),
        batch=BatchRecipe(size=size),
        precision=PrecisionRecipe(threads=THREADS),
        budget=BudgetRecipe(epochs=passes),
        evaluation=EvaluationRecipe(interval=interval),
    )


def _amount(samples: int) -> Amount:
    if samples < FEW:
        return Amount(updates=200, batch=64, lr=6e-3, ema_decay=0.97, dropout=0.2)
    if samples < SOME:
        return Amount(updates=800, batch=128, lr=8e-3, ema_decay=0.97, dropout=0.1)
    return Amount(updates=1_400, batch=256, lr=1e-2, ema_decay=0.98, dropout=0.0)


def network_settings(facts: DataFacts, *, dropout: float) -> Changes:
    """The width, depth and encodings of a network for the columns of a table."""
    samples, numbers = facts.counts["train"], facts.num_numbers
    most = BINS if samples < FINE_FROM else FINE_BINS
    bins = min(most, MOST_FEATURES // max(1, numbers))
    embedded = [size for size in facts.categories if size > EMBEDDED]
    changes: dict[str, int | float | str | bool] = {"width": WIDTH, "depth": 2, "dropout": dropout}
    if numbers and bins >= LEAST_BINS:
        changes |= {"numbers": numbers, "bins": bins}
    if embedded:
        changes["categories"] = ",".join(map(str, embedded))
    return changes
