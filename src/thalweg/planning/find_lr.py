"""Data and wishes → a learning rate, by a range test on the recipe's own model and optimizer."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from thalweg.planning.build import first_whole, model_and_optimizer, optimizer_of, training_stream
from thalweg.planning.plan import make_plan, spec_of, training_task
from thalweg.training.lr_range import LrRange, lr_range


def find_lr(path: str | Path, edits: Mapping[str, object], *, steps: int = 100) -> LrRange:
    """Run a range test of `steps` updates; return its curve and suggestion. Writes no run."""
    chosen = make_plan(path, {"transfer.method": "none", **edits})  # a fitted head has no rate
    recipe = chosen.recipe
    model, _ = model_and_optimizer(chosen)

    def optimizer(trial: nn.Module, lr: float) -> torch.optim.Optimizer:
        return optimizer_of(recipe, trial.named_parameters(), lr=lr)

    task = training_task(spec_of(chosen), recipe)
    batches = training_stream(chosen, start=first_whole(chosen))
    return lr_range(model, batches, task.loss_fn, optimizer=optimizer, steps=steps)
