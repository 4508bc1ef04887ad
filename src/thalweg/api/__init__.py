"""The one folder that knows everyone: data + model + task + recipe → run → diagnosis."""

from thalweg.api.climb import InterruptedClimbError, climb, ladder
from thalweg.api.cross_validation import (
    CrossValidation,
    cross_validate,
    resume_cross_validation,
)
from thalweg.api.estimate import Estimate, estimate
from thalweg.api.final_test import FinalTest, final
from thalweg.api.fit import resume, train
from thalweg.api.planning import Plan, plan
from thalweg.api.progress import Progress
from thalweg.api.run import FailedRunError, InterruptedRunError, Run
from thalweg.api.use import diagnose, load, predict, watch
from thalweg.training.ranks import is_silent

__all__ = [
    "CrossValidation",
    "Estimate",
    "FailedRunError",
    "FinalTest",
    "InterruptedClimbError",
    "InterruptedRunError",
    "Plan",
    "Progress",
    "Run",
    "climb",
    "cross_validate",
    "diagnose",
    "estimate",
    "final",
    "is_silent",
    "ladder",
    "load",
    "plan",
    "predict",
    "resume",
    "resume_cross_validation",
    "train",
    "watch",
]
