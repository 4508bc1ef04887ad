"""Batches in, updates out: the training loop, evaluation, checkpoints, numerics."""

from thalweg.training.checkpoint import Checkpoint, latest_checkpoint, prune, save_checkpoint
from thalweg.training.evaluate import Evaluation, evaluate
from thalweg.training.interrupt import Interrupt
from thalweg.training.loop import Step, train
from thalweg.training.nonfinite import (
    NonFiniteLossError,
    NonFiniteWeightsError,
    first_nonfinite,
)

__all__ = [
    "Checkpoint",
    "Evaluation",
    "Interrupt",
    "NonFiniteLossError",
    "NonFiniteWeightsError",
    "Step",
    "evaluate",
    "first_nonfinite",
    "latest_checkpoint",
    "prune",
    "save_checkpoint",
    "train",
]
