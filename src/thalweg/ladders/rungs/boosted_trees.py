"""The rung of gradient-boosted trees on tables: what a network has to beat there."""

import numpy as np
import torch

from thalweg.classical.boosted_trees import fit_boosted_trees
from thalweg.data.tables.fit_columns import categorical_places
from thalweg.ladders.ladder_data import TRAIN_SCORE_SAMPLES, LadderData
from thalweg.ladders.rung import RungMaker, RungResult, tables_only


def fit_trees(data: LadderData) -> RungResult:
    """Fit the trees to the training rows. Raises: MissingPackageError, TooLongError."""
    rows = {split: data.dataset.inputs[data.dataset.indices[split]] for split in ("train", "val")}
    targets = data.targets("train").cpu()
    model = fit_boosted_trees(
        rows["train"],
        targets.numpy(),
        is_classification=data.is_classification,
        categories=categorical_places(data.dataset.preprocessing.columns),
        seed=data.options.seed,
        seconds=data.time_limit,
    )
    sample = slice(TRAIN_SCORE_SAMPLES)
    train_predictions = torch.from_numpy(model.predict(rows["train"][sample]))
    return RungResult(
        torch.from_numpy(np.asarray(model.predict(rows["val"]))),
        data.score(train_predictions, targets[sample]),
        chosen=f"{model.n_iter_} rounds",
    )


RUNG = RungMaker(
    name="boosted-trees",
    title="gradient-boosted trees",
    kind="trees",
    run=fit_trees,
    unfit_reason=tables_only,
)
