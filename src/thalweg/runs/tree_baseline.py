"""Gradient-boosted trees beside a table's network, with scikit-learn's own settings."""

import numpy as np

from thalweg.classical.boosted_trees import fit_boosted_trees
from thalweg.data.tables.fit_columns import categorical_places
from thalweg.planning.plan import Plan
from thalweg.runs.classical_rival import ClassicalRival


def _predict(plan: Plan, *, seconds: float) -> tuple[np.ndarray, int]:
    dataset = plan.dataset
    rows = dataset.indices["train"]
    model = fit_boosted_trees(
        dataset.inputs[rows],
        dataset.targets[rows],
        is_classification=bool(dataset.class_names),
        categories=categorical_places(dataset.preprocessing.columns),
        seed=plan.recipe.seed,
        seconds=seconds,
    )
    predictions = model.predict(dataset.inputs[dataset.indices["val"]])
    return np.asarray(predictions), int(model.n_iter_)


TREES = ClassicalRival(
    layout="row",
    limits="they predict one class or one value a row",
    possessive="their",
    retry=2,
    predict=_predict,
)
