"""The one folder that knows everyone: data + model + task + recipe → run → diagnosis."""

from thalweg.api.fit import resume, train
from thalweg.api.planning import Plan, plan
from thalweg.api.progress import Progress
from thalweg.api.run import FailedRunError, InterruptedRunError, Run
from thalweg.api.use import diagnose, load, predict, watch

__all__ = [
    "FailedRunError",
    "InterruptedRunError",
    "Plan",
    "Progress",
    "Run",
    "diagnose",
    "load",
    "plan",
    "predict",
    "resume",
    "train",
    "watch",
]
