"""Optimizers, weight groups, schedules."""

from thalweg.optim.adamw import adamw
from thalweg.optim.schedule import SCHEDULES, Schedule
from thalweg.optim.sgd import sgd
from thalweg.registry import Registry

__all__ = ["OPTIMIZERS", "SCHEDULES", "Schedule"]

OPTIMIZERS = Registry("optimizer", (sgd, adamw))
