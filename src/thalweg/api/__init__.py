"""The one folder that knows everyone: data + model + task + recipe → run → diagnosis."""

from thalweg.api.cross_validation import (
    CrossValidation,
    cross_validate,
    resume_cross_validation,
)
from thalweg.api.final_test import FinalTest, final
from thalweg.api.fit import resume, train
from thalweg.api.planning import Plan, plan
from thalweg.api.progress import Progress
from thalweg.api.run import FailedRunError, InterruptedRunError, Run
from thalweg.api.use import diagnose, load, predict, watch

__all__ = [
    "CrossValidation",
    "FailedRunError",
    "FinalTest",
    "InterruptedRunError",
    "Plan",
    "Progress",
    "Run",
    "cross_validate",
    "diagnose",
    "final",
    "load",
    "plan",
    "predict",
    "resume",
    "resume_cross_validation",
    "train",
    "watch",
]
