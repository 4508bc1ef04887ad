"""What success means: loss, metrics, decoding, predictions and chance level; one file a task."""

from thalweg.registry import Registry
from thalweg.tasks.classification import (
    CLASSIFICATION,
    classification,
    confusion,
    per_class_recall,
)
from thalweg.tasks.regression import REGRESSION, regression
from thalweg.tasks.task import Task, TaskType

__all__ = [
    "TASKS",
    "Task",
    "TaskType",
    "classification",
    "confusion",
    "per_class_recall",
    "regression",
]

# Asked in this order which of them the labels are for.
TASKS = Registry("task", (CLASSIFICATION, REGRESSION))
