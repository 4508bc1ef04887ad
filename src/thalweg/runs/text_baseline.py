"""TF-IDF with a linear model beside a network of texts."""

import numpy as np
import torch

from thalweg.classical.tfidf_linear import fit_tfidf_linear
from thalweg.data.text.documents import DocumentRows
from thalweg.planning.plan import Plan
from thalweg.runs.classical_rival import ClassicalRival


def _predict(plan: Plan, *, seconds: float) -> tuple[np.ndarray, int]:
    dataset, rows = plan.dataset, plan.dataset.inputs
    assert isinstance(rows, DocumentRows)
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


LINEAR = ClassicalRival(
    layout="document",
    limits="it predicts one class or one value a text",
    possessive="its",
    retry=3,
    predict=_predict,
)
