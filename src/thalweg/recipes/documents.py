"""Texts with a class, labels or a value each."""

from collections.abc import Mapping
from math import ceil

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
from thalweg.recipes.vectors import network_settings

BAG = "bag_of_ngrams"
THREADS = 1  # a product of a bag is over before a second thread has begun
VALIDATIONS = 10  # of a run, at most
FEW = 2_000  # training texts


def documents(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """A weight for each word, each run of neighbours and each piece of a word, trained by AdamW.

    The n-grams are weighted by tf-idf. Few updates and weight decay hold the weights of rare
    n-grams small; the average of the weights is what is validated and saved. Networks that read the
    words in order, by `--model`, train for longer at a lower rate.
    Measured beside TF-IDF with logistic regression by benchmarks/text_classification.py.
    """
    name = chosen.get("model.name", BAG)
    if name != BAG and isinstance(name, str) and name.startswith("text_"):
        return _of_sequences(name, facts)
    samples = facts.counts["train"]
    size = 32 if samples < FEW else 64
    passes = epochs(samples, batch=size, updates=600, least=6, most=30)
    return Recipe(
        model=ModelRecipe(name=BAG, changes=_beside(facts)),
        optimizer=OptimizerRecipe(
            name="adamw",
            lr=0.01,
            weight_decay=0.1,
            momentum=0.9,
            ema_decay=0.97,
            changes={"beta2": 0.99},
        ),
        schedule=ScheduleRecipe(name="cosine"),
        batch=BatchRecipe(size=size),
        precision=PrecisionRecipe(threads=THREADS),
        budget=BudgetRecipe(epochs=passes),
        evaluation=EvaluationRecipe(interval=ceil(passes / VALIDATIONS)),
    )


def _beside(facts: DataFacts) -> Changes:
    """The settings of a table's network for the columns beside the text."""
    if not facts.columns:
        return {}
    return {"columns": facts.columns, **network_settings(facts, dropout=0.2)}


def _of_sequences(name: str, facts: DataFacts) -> Recipe:
    """Embedding and encoder, whose embedding dropout keeps it from knowing its texts by heart."""
    samples, size = facts.counts["train"], 32
    passes = epochs(samples, batch=size, updates=1_000, least=4, most=20)
    changes: dict[str, int | float | str | bool] = {"words": facts.words}
    if facts.columns:
        changes["columns"] = facts.columns
    return Recipe(
        model=ModelRecipe(name=name, changes=changes),
        optimizer=OptimizerRecipe(
            name="adamw", lr=2e-3, weight_decay=0.05, max_grad_norm=1.0, ema_decay=0.98
        ),
        schedule=ScheduleRecipe(name="cosine", warmup=0.05),
        batch=BatchRecipe(size=size),
        budget=BudgetRecipe(epochs=passes),
        evaluation=EvaluationRecipe(interval=ceil(passes / VALIDATIONS)),
    )
