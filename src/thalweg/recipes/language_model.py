"""One long text, whose next token a network predicts."""

from collections.abc import Mapping
from math import ceil

from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import (
    BatchRecipe,
    BudgetRecipe,
    Changes,
    EvaluationRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    ScheduleRecipe,
)

VALIDATIONS = 8  # of a training; each reads the whole validation split
TOKENS_A_STEP = 2_048
STEPS, MOST_EPOCHS = 1_200, 30
SHORT, MEDIUM = 50_000, 500_000  # tokens to train on


def language_model(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """A Transformer whose size and length of training suit the text, trained by Muon.

    - 2,048 tokens a step: with fewer, Muon's products cost more than the network's own. Of
      nanoGPT's setting for processors (0.8 million weights, 4 layers, 2,000 steps of 768 tokens,
      validation loss 1.92 nat in 147 CPU seconds) the same size reaches 1.56 in 300 seconds so
      (tiny-shakespeare, characters, one thread, torch 2.13).
    - A rate of 0.01 with updates scaled to AdamW's is that of 0.02 in Muon's own scale: Jordan
      2024, https://kellerjordan.github.io/posts/muon/.
    - A short text gets a smaller network, dropout and at most 30 passes: it is soon known by heart.
    """
    context = facts.input_shape[0]
    size = max(4, TOKENS_A_STEP // context)
    an_epoch = max(1, ceil(facts.counts["train"] / size))
    steps = min(STEPS, MOST_EPOCHS * an_epoch)
    return Recipe(
        model=ModelRecipe(name="transformer_lm", changes=_network(facts.tokens)),
        optimizer=OptimizerRecipe(name="muon", lr=0.01, weight_decay=0.01, momentum=0.95),
        schedule=ScheduleRecipe(name="warmup_linear", warmup=0.02),
        batch=BatchRecipe(size=size),
        budget=BudgetRecipe(epochs=ceil(steps / an_epoch), steps=steps),
        evaluation=EvaluationRecipe(steps=ceil(steps / VALIDATIONS)),
    )


def _network(tokens: int) -> Changes:
    if tokens < SHORT:
        return {"width": 64, "depth": 2, "heads": 2, "dropout": 0.1}
    if tokens < MEDIUM:
        return {"width": 96, "depth": 3, "heads": 3, "dropout": 0.1}
    return {"width": 128, "depth": 4, "heads": 4}
