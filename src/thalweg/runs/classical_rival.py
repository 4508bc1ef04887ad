"""A classical model beside a network: its score on the same samples, and which errs less.

It is fitted to the training samples with settings of its own; nothing is chosen by the validation
split, which has chosen the network's weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from time import monotonic

import numpy as np

from thalweg.errors import MissingPackageError, TooLongError
from thalweg.planning.plan import Plan
from thalweg.runs.results import predicted_numbers
from thalweg.statistics import NORMAL_95
from thalweg.tasks import TASKS
from thalweg.training.evaluate import Evaluation

LEAST = 10  # validation samples, from which on errors are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicalRival:
    """A kind of classical model, and the words for it."""

    layout: str  # of the modalities that it is for
    limits: str  # the tasks that it is for, in words
    possessive: str  # "their" or "its"
    retry: float  # times the seconds of a fit that was stopped, which another try is given
    # Predictions for the validation split, and the rounds of the fit, of a plan and by keyword the
    # seconds that it may take. Raises TooLongError, MissingPackageError.
    predict: Callable[..., tuple[np.ndarray, int]]


def compare_with(
    rival: ClassicalRival, plan: Plan, evaluation: Evaluation, *, seconds: float
) -> dict[str, object] | None:
    """The rival's score beside the network's, or the reason why there is none.

    None for samples that it is not for, and where the recipe asks for none. Takes about `seconds`
    at most.
    """
    most = plan.recipe.evaluation.trees_seconds
    if plan.dataset.modality.layout != rival.layout or not most:
        return None
    if TASKS[plan.dataset.facts.task].answers not in ("classes", "values"):
        return {"reason": rival.limits}
    if seconds <= 0:
        return {"reason": "the time was up"}
    start = monotonic()
    try:
        predictions, rounds = rival.predict(plan, seconds=min(most, seconds))
    except TooLongError as error:
        longer = f"--evaluation.trees_seconds {max(2, round(rival.retry * error.seconds))}"
        reason = f"{rival.possessive} fit {error.problem} of at most {most:g}; {longer} allows it"
        return {"reason": reason}
    except MissingPackageError as error:
        return {"reason": f"{error.problem}: {error.fix}"}
    targets = evaluation.targets.numpy()
    own = _errors(plan, predictions, targets)
    network = _errors(plan, predicted_numbers(plan.task, evaluation.logits).numpy(), targets)
    return {
        "score": _score(plan, own, targets),
        "seconds": monotonic() - start,
        "rounds": rounds,
        "verdict": verdict_of(network - own),
    }


def _errors(plan: Plan, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 a row: 1 for a wrong class, or the squared error."""
    if plan.dataset.class_names:
        return (predictions != targets).astype(np.float64)
    return np.square(predictions.astype(np.float64) - targets)


def _score(plan: Plan, errors: np.ndarray, targets: np.ndarray) -> float:
    """Accuracy or R², as of the network; NaN where all targets are equal."""
    if plan.dataset.class_names:
        return float(1 - errors.mean())
    spread = targets.astype(np.float64).var()
    return float(1 - errors.mean() / spread) if spread else float("nan")


def verdict_of(fewer: np.ndarray) -> str:
    """Compare the errors that a rival lacks on the same rows with their 95 % interval (paired)."""
    if len(fewer) < LEAST:
        return "unknown"
    half = NORMAL_95 * float(fewer.std(ddof=1)) / sqrt(len(fewer))
    if abs(float(fewer.mean())) <= half:
        return "alike"
    return "better" if fewer.mean() > 0 else "worse"
