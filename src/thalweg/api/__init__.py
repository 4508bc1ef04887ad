"""The one folder that knows everyone: data + model + task + recipe → run → diagnosis."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.api.beginning import resume, train
    from thalweg.api.climbing import InterruptedClimbError, climb, ladder
    from thalweg.api.costs import Estimate, estimate
    from thalweg.api.cross_validation import (
        CrossValidation,
        cross_validate,
        resume_cross_validation,
    )
    from thalweg.api.final_test import FinalTest, final
    from thalweg.api.planning import Plan, plan
    from thalweg.api.progress import Progress
    from thalweg.api.run import FailedRunError, InterruptedRunError, Run
    from thalweg.api.use import diagnose, load, predict, watch
    from thalweg.training.ranks import is_silent

_HOME = {
    "CrossValidation": "thalweg.api.cross_validation",
    "Estimate": "thalweg.api.costs",
    "FailedRunError": "thalweg.api.run",
    "FinalTest": "thalweg.api.final_test",
    "InterruptedClimbError": "thalweg.api.climbing",
    "InterruptedRunError": "thalweg.api.run",
    "Plan": "thalweg.api.planning",
    "Progress": "thalweg.api.progress",
    "Run": "thalweg.api.run",
    "climb": "thalweg.api.climbing",
    "cross_validate": "thalweg.api.cross_validation",
    "diagnose": "thalweg.api.use",
    "estimate": "thalweg.api.costs",
    "final": "thalweg.api.final_test",
    "is_silent": "thalweg.training.ranks",
    "ladder": "thalweg.api.climbing",
    "load": "thalweg.api.use",
    "plan": "thalweg.api.planning",
    "predict": "thalweg.api.use",
    "resume": "thalweg.api.beginning",
    "resume_cross_validation": "thalweg.api.cross_validation",
    "train": "thalweg.api.beginning",
    "watch": "thalweg.api.use",
}
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


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: a training needs no ladder, nor what it climbs with.

    So no module in this folder may have the name of what one of them offers: it would hide it.
    """
    if name not in _HOME:
        raise AttributeError(f"module 'thalweg.api' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
