"""The score of gradient-boosted trees on the same rows, to stand beside a table's network.

They are fitted to the training rows with scikit-learn's own settings; nothing is chosen by the
validation split, which has chosen the network's weights.
"""

from math import sqrt
from time import monotonic
from typing import Any

import numpy as np

from thalweg.classical.boosted_trees import fit_boosted_trees
from thalweg.data.tables.fit_columns import categorical_places
from thalweg.errors import MissingPackageError, TooLongError
from thalweg.planning.plan import Plan
from thalweg.runs.results import predicted_numbers
from thalweg.statistics import NORMAL_95
from thalweg.tasks import TASKS
from thalweg.training.evaluate import Evaluation

LEAST = 10  # validation rows, from which on errors are compared


def compare_with_trees(
    plan: Plan, evaluation: Evaluation, *, seconds: float
) -> dict[str, object] | None:
    """The trees' score beside the network's, or the reason why there is none.

    None for what is no table, and where the recipe asks for none. Takes about `seconds` at most.
    """
    most = plan.recipe.evaluation.trees_seconds
    if plan.dataset.modality.layout != "row" or not most:
        return None
    if TASKS[plan.dataset.facts.task].answers not in ("classes", "values"):
        return {"reason": "they predict one class or one value a row"}
    if seconds <= 0:
        return {"reason": "the time was up"}
    start = monotonic()
    try:
        model = _fit(plan, seconds=min(most, seconds))
    except TooLongError as error:
        longer = f"--evaluation.trees_seconds {max(2, round(2 * error.seconds))}"
        return {"reason": f"their fit {error.problem} of at most {most:g}; {longer} allows it"}
    except MissingPackageError as error:
        return {"reason": f"{error.problem}: {error.fix}"}
    targets = evaluation.targets.numpy()
    trees = errors_of(plan, _predictions(plan, model), targets)
    network = errors_of(plan, predicted_numbers(plan.task, evaluation.logits).numpy(), targets)
    return {
        "score": score_of(plan, trees, targets),
        "seconds": monotonic() - start,
        "rounds": int(model.n_iter_),
        "verdict": verdict_of(network - trees),
    }


def _fit(plan: Plan, *, seconds: float) -> Any:
    dataset = plan.dataset
    rows = dataset.indices["train"]
    return fit_boosted_trees(
        dataset.inputs[rows],
        dataset.targets[rows],
        is_classification=bool(dataset.class_names),
        categories=categorical_places(dataset.preprocessing.columns),
        seed=plan.recipe.seed,
        seconds=seconds,
    )


def _predictions(plan: Plan, model: Any) -> np.ndarray:
    dataset = plan.dataset
    return np.asarray(model.predict(dataset.inputs[dataset.indices["val"]]))


def errors_of(plan: Plan, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 a row: 1 for a wrong class, or the squared error."""
    if plan.dataset.class_names:
        return (predictions != targets).astype(np.float64)
    return np.square(predictions.astype(np.float64) - targets)


def score_of(plan: Plan, errors: np.ndarray, targets: np.ndarray) -> float:
    """Accuracy or R², as of the network; NaN where all targets are equal."""
    if plan.dataset.class_names:
        return float(1 - errors.mean())
    spread = targets.astype(np.float64).var()
    return float(1 - errors.mean() / spread) if spread else float("nan")


def verdict_of(fewer: np.ndarray) -> str:
    """Compare the errors that the trees lack on the same rows with their 95 % interval (paired)."""
    if len(fewer) < LEAST:
        return "unknown"
    half = NORMAL_95 * float(fewer.std(ddof=1)) / sqrt(len(fewer))
    if abs(float(fewer.mean())) <= half:
        return "alike"
    return "better" if fewer.mean() > 0 else "worse"
