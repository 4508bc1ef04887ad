"""The rung that remembers everything: the answer of the k nearest training samples."""

import torch
from torch import Tensor

from thalweg.classical import NearestNeighborClassifier, choose_k, folds, nearest_neighbors
from thalweg.classical.checks import check_count
from thalweg.ladders.rung import RungMaker
from thalweg.ladders.samples import Climbed, Ground

CHOICES = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)  # CS231n's
CHOSEN_ON = 5_000  # training samples
PRODUCTS = 4e11  # pairs × features of the search: 5 to 10 CPU seconds on bytes
FEWEST = 500  # validation samples that are judged, if there are as many


def climb(ground: Ground) -> Climbed:
    train, val, targets = ground.train, ground.val, ground.targets("train")
    k = ground.wishes.k
    if k is None:
        k, chosen = _chosen(ground)
    else:
        check_count(k, name="k", most=len(train), of="the number of training samples")
        chosen = f"k = {k}"
    judged = _judged(len(val), pairs=len(train) * train.shape[1])
    queries = val[judged.to(val.device)]
    predicted = torch.zeros(len(val), dtype=targets.dtype, device=targets.device)
    answers = _classes if ground.classifies else _means
    predicted[judged.to(val.device)] = answers(ground, queries, k)
    if len(queries) < len(val):
        chosen += f"; {len(queries):,} of {len(val):,} judged"
    return Climbed(predicted, chosen=chosen, judged=judged)


def _classes(ground: Ground, queries: Tensor, k: int) -> Tensor:
    model = NearestNeighborClassifier(
        reference=ground.train,
        targets=ground.targets("train"),
        num_classes=ground.facts.num_classes,
        k=k,
    )
    return model.predict(queries)


def _means(ground: Ground, queries: Tensor, k: int) -> Tensor:
    found = nearest_neighbors(queries, ground.train, k=k)
    return ground.targets("train")[found.indices].mean(1)


def _chosen(ground: Ground) -> tuple[int, str]:
    """k by 5-fold cross-validation on (some of) the training samples."""
    some = torch.cat(ground.choosing)[:CHOSEN_ON].to(ground.device)
    inputs, targets = ground.train[some], ground.targets("train")[some]
    parts = min(5, len(inputs))
    if ground.classifies:
        k = choose_k(
            inputs, targets, num_classes=ground.facts.num_classes, choices=CHOICES, num_folds=parts
        ).k
    else:
        k = _best_for_values(inputs, targets, parts)
    return k, f"k = {k} by {parts} folds of {len(inputs):,}"


def _best_for_values(inputs: Tensor, targets: Tensor, parts: int) -> int:
    """The k of least squared error."""
    splits = folds(targets, num_folds=parts)
    most = min(len(train) for train, _ in splits)
    choices = [k for k in CHOICES if k <= most]
    total = dict.fromkeys(choices, 0.0)
    for train, val in splits:
        found = nearest_neighbors(inputs[val], inputs[train], k=choices[-1])
        near = targets[train][found.indices].double()
        for k in choices:
            total[k] += (near[:, :k].mean(1) - targets[val]).square().sum().item()
    return min(total, key=lambda k: total[k])


def _judged(count: int, *, pairs: int) -> Tensor:
    """Which validation samples are asked: all, or as many as the time allows, at random."""
    most = min(count, max(FEWEST, int(PRODUCTS / pairs)))
    some = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]
    judged = torch.zeros(count, dtype=torch.bool)
    judged[some] = True
    return judged


RUNG = RungMaker(name="knn", title="nearest neighbours", kind="memory", climb=climb)
