"""Wishes and data → a learning rate, by a range test on the recipe's own model and optimizer."""

from collections.abc import Mapping
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.planning.make_plan import make_plan
from thalweg.training.lr_range import LrRange, lr_range


def find_lr(path: str | Path, edits: Mapping[str, object], *, steps: int = 100) -> LrRange:
    """Run a range test of `steps` updates; return its curve and suggestion. Writes no run."""
    if steps < 2:
        raise UsageError(
            "a range test takes several rates", seen=f"steps = {steps}", fix="steps 100"
        )
    plan = make_plan(path, {"transfer.method": "none", **edits})  # a fitted head has no rate
    model = plan.build_model()
    batches = plan.training_stream(start=plan.first_full_size_batch)
    return lr_range(model, batches, plan.task.loss_fn, optimizer=plan.build_optimizer, steps=steps)
