"""Data and wishes → a learning rate, by a range test on the recipe's own model and optimizer."""

from pathlib import Path

import torch
from torch import nn

from thalweg.api.build import first_whole, model_and_optimizer, optimizer_of, training_stream
from thalweg.api.planning import plan, spec_of, training_task
from thalweg.training.lr_range import LrRange, lr_range


def find_lr(path: str | Path, *, steps: int = 100, **options: object) -> LrRange:
    """The range test's curve and suggestion. Takes what `plan` takes; writes no run."""
    options = {"transfer": "none", **options}  # a head that is fitted has no rate
    chosen = plan(path, **options)  # type: ignore[arg-type]
    recipe = chosen.recipe
    model, _ = model_and_optimizer(chosen)

    def optimizer(trial: nn.Module, lr: float) -> torch.optim.Optimizer:
        return optimizer_of(recipe, trial.named_parameters(), lr=lr)

    task = training_task(spec_of(chosen), recipe)
    batches = training_stream(chosen, start=first_whole(chosen))
    return lr_range(model, batches, task.loss_fn, optimizer=optimizer, steps=steps)
