"""Series, whose next steps a network forecasts."""

from collections.abc import Mapping
from math import ceil

from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import (
    BatchRecipe,
    BudgetRecipe,
    EvaluationRecipe,
    ModelRecipe,
    OptimizerRecipe,
    PrecisionRecipe,
    Recipe,
    ScheduleRecipe,
)

QUANTILES = 3  # of each step: low, median, high
STEPS, MORE_STEPS = 240, 1_200
MANY = 2_000  # training windows, from which on there are more steps
VALIDATIONS = 12
THREADS = 1  # a product is over before a second thread has begun


def forecast(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """A linear map of the lags, begun at the mean of past seasons, and a small MLP; AdamW.

    It begins as a strong simple forecast, so few updates are enough: with more, the many windows of
    a short series, which share their values, are learned by heart. The average of the weights
    stands in for an ensemble.
    Measured beside naive, seasonal naive and gradient-boosted trees by benchmarks/forecast.py.
    """
    samples = facts.counts["train"]
    is_long = samples >= MANY
    steps, size = (MORE_STEPS, 128) if is_long else (STEPS, 64)
    an_epoch = max(1, ceil(samples / size))
    return Recipe(
        model=ModelRecipe(
            name="forecaster",
            changes={
                "lags": facts.lags,
                "season": facts.season,
                "quantiles": QUANTILES,
                "width": 64,
                "depth": 2,
                "dropout": 0.1 if is_long else 0.3,
            },
        ),
        optimizer=OptimizerRecipe(
            name="adamw", lr=2e-3, weight_decay=0.1, momentum=0.9, ema_decay=0.97
        ),
        schedule=ScheduleRecipe(name="cosine"),
        batch=BatchRecipe(size=size),
        precision=PrecisionRecipe(threads=THREADS),
        budget=BudgetRecipe(epochs=ceil(steps / an_epoch), steps=steps),
        evaluation=EvaluationRecipe(steps=ceil(steps / VALIDATIONS)),
    )
