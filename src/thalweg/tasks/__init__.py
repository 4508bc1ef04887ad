"""Tasks, one file each: loss, metrics, decoding, predictions and chance level."""

from thalweg.registry import Registry
from thalweg.tasks.classification import (
    CLASSIFICATION,
    classification,
    confusion,
    per_class_recall,
)
from thalweg.tasks.forecast import FORECAST, forecast
from thalweg.tasks.multi_label import MULTI_LABEL, multi_label
from thalweg.tasks.next_token import NEXT_TOKEN, next_token
from thalweg.tasks.regression import REGRESSION, regression
from thalweg.tasks.sequence import SEQUENCE, sequence
from thalweg.tasks.task import Task, TaskType

__all__ = [
    "TASKS",
    "Task",
    "TaskType",
    "classification",
    "confusion",
    "forecast",
    "multi_label",
    "next_token",
    "per_class_recall",
    "regression",
    "sequence",
]

# Tried in this order: the first that fits the labels.
TASKS = Registry(
    "task",
    (
        MULTI_LABEL,
        CLASSIFICATION,
        REGRESSION,
        NEXT_TOKEN,
        SEQUENCE,
        FORECAST,
    ),
)
