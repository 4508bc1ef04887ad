"""The rung of gradient-boosted trees on tables: what a network has to beat there.

scikit-learn's HistGradientBoosting with its own settings, which takes categories and missing values
as they are. Trees still win on many tables: Grinsztajn et al. 2022, arXiv:2207.08815.
"""

from time import perf_counter
from typing import Any

import numpy as np
import torch

from thalweg.data.tables.fit_columns import sizes_of
from thalweg.ladders.ladder_data import TRAIN_SCORE_SAMPLES, LadderData
from thalweg.ladders.rung import (
    MissingPackageError,
    RungMaker,
    RungResult,
    TooLongError,
    tables_only,
)

TIMED_ROUNDS = 4
MOST_CATEGORIES = 254  # that HistGradientBoosting takes, beside the unseen ones


def fit_boosted_trees(data: LadderData) -> RungResult:
    """Fit the trees to the training rows. Raises: MissingPackageError, TooLongError."""
    model = build_boosted_trees(
        is_classification=data.is_classification,
        categories=categorical_places(data.dataset.preprocessing.columns),
        seed=data.options.seed,
    )
    rows = {split: data.dataset.inputs[data.dataset.indices[split]] for split in ("train", "val")}
    targets = data.targets("train").cpu()
    _check_time(data, model, (rows["train"], targets.numpy()))
    model.fit(rows["train"], targets.numpy())
    sample = slice(TRAIN_SCORE_SAMPLES)
    train_predictions = torch.from_numpy(model.predict(rows["train"][sample]))
    return RungResult(
        torch.from_numpy(np.asarray(model.predict(rows["val"]))),
        data.score(train_predictions, targets[sample]),
        chosen=f"{model.n_iter_} rounds",
    )


def _check_time(data: LadderData, model: Any, training: tuple[np.ndarray, np.ndarray]) -> None:
    """Time a few rounds. Raises: TooLongError where all of them take longer than is left."""
    rounds = model.max_iter
    start = perf_counter()
    model.set_params(max_iter=TIMED_ROUNDS).fit(*training)
    seconds = (perf_counter() - start) * rounds / TIMED_ROUNDS
    model.set_params(max_iter=rounds)
    if seconds > data.time_limit:
        raise TooLongError(seconds)


def build_boosted_trees(*, is_classification: bool, categories: list[int], seed: int) -> Any:
    """scikit-learn's HistGradientBoosting, unfitted. Raises: MissingPackageError."""
    try:
        from sklearn import ensemble
    except ImportError as error:
        raise MissingPackageError(
            "scikit-learn is not installed", fix="pip install thalweg[demo]"
        ) from error
    name = f"HistGradientBoosting{'Classifier' if is_classification else 'Regressor'}"
    return getattr(ensemble, name)(random_state=seed, categorical_features=categories or None)


def categorical_places(columns: Any) -> list[int]:
    """Places of the numbers that are categories with few enough entries."""
    return [place for place, size in sizes_of(columns).items() if size <= MOST_CATEGORIES]


RUNG = RungMaker(
    name="boosted-trees",
    title="gradient-boosted trees",
    kind="trees",
    run=fit_boosted_trees,
    unfit_reason=tables_only,
)
