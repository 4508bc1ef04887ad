"""Data and wishes → a learning rate, by a range test on the recipe's own model and optimizer."""

from pathlib import Path

import torch
from torch import nn

from thalweg.api.build import model_and_optimizer, training_batches
from thalweg.api.planning import plan, spec_of
from thalweg.optim import OPTIMIZERS
from thalweg.training.lr_range import LrRange, lr_range


def find_lr(path: str | Path, *, steps: int = 100, **options: object) -> LrRange:
    """The range test's curve and suggestion. Takes what `plan` takes; writes no run."""
    chosen = plan(path, **options)  # type: ignore[arg-type]
    recipe = chosen.recipe
    model, _ = model_and_optimizer(chosen)

    def optimizer(trial: nn.Module, lr: float) -> torch.optim.Optimizer:
        return OPTIMIZERS[recipe.optimizer.name](
            trial.named_parameters(),
            lr=lr,
            weight_decay=recipe.optimizer.weight_decay,
            momentum=recipe.optimizer.momentum,
        )

    task = spec_of(chosen).build_task(recipe.task.label_smoothing)
    batches = training_batches(chosen).stream()
    return lr_range(model, batches, task.loss_fn, optimizer=optimizer, steps=steps)
