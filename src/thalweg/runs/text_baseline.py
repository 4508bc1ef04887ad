"""The score of TF-IDF with a linear model on the same texts, to stand beside a network's.

It is fitted to the training texts; nothing is chosen by the validation split, which has chosen the
network's weights.
"""

from time import monotonic

import numpy as np
import torch

from thalweg.classical.tfidf_linear import fit_tfidf_linear
from thalweg.data.text.documents import DocumentRows
from thalweg.errors import MissingPackageError, TooLongError
from thalweg.planning.plan import Plan
from thalweg.runs.results import predicted_numbers
from thalweg.runs.tree_baseline import errors_of, score_of, verdict_of
from thalweg.tasks import TASKS
from thalweg.training.evaluate import Evaluation


def compare_with_linear(
    plan: Plan, evaluation: Evaluation, *, seconds: float
) -> dict[str, object] | None:
    """The linear model's score beside the network's, or the reason why there is none.

    None for what are no texts, and where the recipe asks for none. Takes about `seconds` at most.
    """
    most, rows = plan.recipe.evaluation.trees_seconds, plan.dataset.inputs
    if plan.dataset.modality.layout != "document" or not most:
        return None
    assert isinstance(rows, DocumentRows)
    if TASKS[plan.dataset.facts.task].answers not in ("classes", "values"):
        return {"reason": "it predicts one class or one value a text"}
    if seconds <= 0:
        return {"reason": "the time was up"}
    start = monotonic()
    try:
        predictions, rounds = _predictions(plan, rows, seconds=min(most, seconds))
    except TooLongError as error:
        longer = f"--evaluation.trees_seconds {max(2, round(3 * error.seconds))}"
        return {"reason": f"its fit {error.problem} of at most {most:g}; {longer} allows it"}
    except MissingPackageError as error:
        return {"reason": f"{error.problem}: {error.fix}"}
    targets = evaluation.targets.numpy()
    linear = errors_of(plan, predictions, targets)
    network = errors_of(plan, predicted_numbers(plan.task, evaluation.logits).numpy(), targets)
    return {
        "score": score_of(plan, linear, targets),
        "seconds": monotonic() - start,
        "rounds": rounds,
        "verdict": verdict_of(network - linear),
    }


def _predictions(plan: Plan, rows: DocumentRows, *, seconds: float) -> tuple[np.ndarray, int]:
    """The predictions for the validation split, and the rounds of the fit."""
    dataset = plan.dataset
    train, val = dataset.indices["train"], dataset.indices["val"]
    columns = {name: _columns(plan, rows, part) for name, part in dataset.indices.items()}
    model = fit_tfidf_linear(
        [rows.texts[row] for row in train.tolist()],
        dataset.targets[train],
        numbers=columns["train"],
        is_classification=bool(dataset.class_names),
        seconds=seconds,
    )
    return model.predict([rows.texts[row] for row in val.tolist()], columns["val"]), model.rounds


def _columns(plan: Plan, rows: DocumentRows, part: np.ndarray) -> np.ndarray | None:
    """The columns beside the texts as the network takes them; None where there are none."""
    vector = plan.dataset.preprocessing.vector
    if vector is None:
        return None
    return np.asarray(vector.to_inputs(torch.from_numpy(rows.numbers[part])))
