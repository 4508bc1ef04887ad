"""What success means: loss, metrics, head size and chance level; one file a task."""

from thalweg.registry import Registry
from thalweg.tasks.classification import classification, confusion, per_class_recall
from thalweg.tasks.regression import regression
from thalweg.tasks.task import Task

__all__ = ["TASKS", "Task", "classification", "confusion", "per_class_recall", "regression"]

TASKS = Registry("task", (classification, regression))
