"""The nearest-neighbour rung: predict from the targets of the k nearest training samples."""

import torch
from torch import Tensor

from thalweg.classical import NearestNeighborClassifier, choose_k, folds, nearest_neighbors
from thalweg.classical.checks import check_count
from thalweg.ladders.ladder_data import LadderData
from thalweg.ladders.rung import RungMaker, RungResult, equal_lengths_only

K_CANDIDATES = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)  # CS231n's
TUNING_SAMPLES = 5_000  # training samples that k is chosen on
MAX_PRODUCTS = 4e11  # pairs × features of the search: 5 to 10 CPU seconds on bytes
QUERIES = 512  # searched together, between two looks at the clock
MIN_SCORED = 500  # validation samples that are scored, if there are as many


def score_neighbors(data: LadderData) -> RungResult:
    train, val, targets = data.train_inputs, data.val_inputs, data.targets("train")
    k = data.options.k
    if k is None:
        k, chosen = _choose_k(data)
    else:
        check_count(k, name="k", most=len(train), of="the number of training samples")
        chosen = f"k = {k}"
    scored = _rows_to_score(len(val), products_per_row=len(train) * train.shape[1])
    queries = val[scored.to(val.device)]
    predictions = torch.zeros(len(val), dtype=targets.dtype, device=targets.device)
    predict = _predict_classes if data.is_classification else _predict_means
    answers = []
    for block in queries.split(QUERIES):
        data.check_time()
        answers.append(predict(data, block, k))
    predictions[scored.to(val.device)] = torch.cat(answers)
    if len(queries) < len(val):
        chosen += f"; {len(queries):,} of {len(val):,} scored"
    return RungResult(predictions, chosen=chosen, scored=scored)


def _predict_classes(data: LadderData, queries: Tensor, k: int) -> Tensor:
    model = NearestNeighborClassifier(
        reference=data.train_inputs,
        targets=data.targets("train"),
        num_classes=data.facts.num_classes,
        k=k,
    )
    return model.predict(queries)


def _predict_means(data: LadderData, queries: Tensor, k: int) -> Tensor:
    neighbors = nearest_neighbors(queries, data.train_inputs, k=k)
    return data.targets("train")[neighbors.indices].mean(1)


def _choose_k(data: LadderData) -> tuple[int, str]:
    """Choose k by 5-fold cross-validation on (some of) the training samples."""
    sample = torch.cat(data.tuning_split)[:TUNING_SAMPLES].to(data.device)
    inputs, targets = data.train_inputs[sample], data.targets("train")[sample]
    num_folds = min(5, len(inputs))
    if data.is_classification:
        k = choose_k(
            inputs,
            targets,
            num_classes=data.facts.num_classes,
            candidates=K_CANDIDATES,
            num_folds=num_folds,
            check=data.check_time,
        ).k
    else:
        k = _choose_k_for_values(data, inputs, targets, num_folds=num_folds)
    return k, f"k = {k} by {num_folds} folds of {len(inputs):,}"


def _choose_k_for_values(
    data: LadderData, inputs: Tensor, targets: Tensor, *, num_folds: int
) -> int:
    """Choose the k of least squared error."""
    splits = folds(targets, num_folds=num_folds)
    most = min(len(train) for train, _ in splits)
    candidates = [k for k in K_CANDIDATES if k <= most]
    squared_errors = dict.fromkeys(candidates, 0.0)
    for train, val in splits:
        data.check_time()
        neighbors = nearest_neighbors(inputs[val], inputs[train], k=candidates[-1])
        neighbor_targets = targets[train][neighbors.indices].double()
        for k in candidates:
            means = neighbor_targets[:, :k].mean(1)
            squared_errors[k] += (means - targets[val]).square().sum().item()
    return min(squared_errors, key=lambda k: squared_errors[k])


def _rows_to_score(count: int, *, products_per_row: int) -> Tensor:
    """bool [count]: all validation rows, or a random sample as large as the time allows."""
    most = min(count, max(MIN_SCORED, int(MAX_PRODUCTS / products_per_row)))
    sample = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]
    scored = torch.zeros(count, dtype=torch.bool)
    scored[sample] = True
    return scored


RUNG = RungMaker(
    name="knn",
    title="nearest neighbours",
    kind="memory",
    run=score_neighbors,
    unfit_reason=equal_lengths_only,
)
