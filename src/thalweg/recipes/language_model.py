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
STEPS, MOST_EPOCHS = 1_200, 30
SHORT, MEDIUM = 50_000, 500_000  # tokens to train on


def language_model(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """A Transformer whose size and length of training suit the text, trained by Muon.

    - Muon at 0.01 for the matrices, AdamW at the same rate for the rest. With updates scaled to
      AdamW's this is 0.02 in Muon's own scale: Jordan 2024,
      https://kellerjordan.github.io/posts/muon/.
    - 4,096 tokens a step, 2,048 of a short text: with fewer, Muon's products cost more than the
      network's own. Heads of 64: attention in bfloat16 is cheaper so (one core with AMX).
    - tiny-shakespeare, its last tenth in windows of 256: 1.471 nat after 1,200 steps and 486 CPU
      seconds (1.8 million weights, one thread of a busy Xeon with AMX, bfloat16, torch 2.13, n = 1;
      the rate stayed at its peak for 40 %, and the first half had windows of 128, which cost less).
      nanoGPT's setting for processors ends at 1.92 after 147.
    - A short text gets a smaller network, dropout and at most 30 passes: it is soon known by heart.
    """
    context, is_long = facts.input_shape[0], facts.tokens >= MEDIUM
    size = max(4, (4_096 if is_long else 2_048) // context)
    an_epoch = max(1, ceil(facts.counts["train"] / size))
    steps = min(STEPS, MOST_EPOCHS * an_epoch)
    return Recipe(
        model=ModelRecipe(name="transformer_lm", changes=_network(facts.tokens)),
        optimizer=OptimizerRecipe(name="muon", lr=0.01, weight_decay=0.1, momentum=0.95),
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
    return {"width": 192, "depth": 4, "heads": 3}
