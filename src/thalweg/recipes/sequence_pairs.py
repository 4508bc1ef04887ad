"""Pairs of sequences: a network reads one and writes the other."""

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

STEPS, MOST_EPOCHS = 4_000, 200
VALIDATIONS = 16  # of a training
BATCH, LEAST_BATCH = 64, 8
BATCHES = 20  # of an epoch, at least, where there are few pairs
FEW = 5_000  # pairs to train on


def sequence_pairs(facts: DataFacts, chosen: Mapping[str, object]) -> Recipe:
    """Gated recurrent units with attention, trained by Muon with a rate that falls to zero.

    - A step of a recurrent network of width 128 costs a sixth of that of a Transformer of equal
      width and two blocks a side. SCAN simple, test split, one thread of a busy machine (torch
      2.13, n = 1), exact match: recurrent with Muon 0.68 after 524 steps of 64 pairs and 47 CPU
      seconds; with AdamW at 0.003 0.39 after 524 steps and 32 s, 0.66 after 1,048 and 66 s;
      Transformer with Muon 0.26 after 262 steps of 128 pairs and 96 s, 0.78 after 524 and 189 s.
    - At most 4,000 updates and 200 passes. Few pairs get dropout and smaller batches, so that they,
      too, make 20 updates a pass.
    """
    count = facts.counts["train"]
    size = max(LEAST_BATCH, min(BATCH, count // BATCHES))
    an_epoch = max(1, ceil(count / size))
    epochs = max(1, min(MOST_EPOCHS, ceil(STEPS / an_epoch)))
    passes = int(str(chosen.get("budget.epochs") or epochs))
    return Recipe(
        model=ModelRecipe(
            name="gru_seq2seq", changes={"width": 128, "dropout": 0.1 if count < FEW else 0.0}
        ),
        optimizer=OptimizerRecipe(name="muon", lr=0.01, weight_decay=0.01, momentum=0.95),
        schedule=ScheduleRecipe(name="warmup_linear", warmup=0.05),
        batch=BatchRecipe(size=size),
        budget=BudgetRecipe(epochs=epochs),
        evaluation=EvaluationRecipe(interval=ceil(passes / VALIDATIONS)),
    )
