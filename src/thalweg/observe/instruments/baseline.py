"""What simple methods make of the same samples: is there anything to learn, and is it learned."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from thalweg.observe.instrument import Moment, Reading, survey
from thalweg.record import Quantity
from thalweg.record.quantities import BASELINE_ACCURACY, SUSPECT_LABELS

NEIGHBOURS = 10
CONFIDENT = 8  # of ten neighbours that agree
MOST = 1024  # samples; the cost is that of one distance matrix
LEAST = 100
AT_ONCE = 4096  # features
LEAST_SURE = 50  # samples whose neighbours agree; noise makes them few


@survey(BASELINE_ACCURACY, SUSPECT_LABELS, when="samples")
def baselines(moment: Moment) -> Mapping[Quantity, Reading]:
    """Nearest neighbours and a linear least-squares classifier, each out of fold, and chance.

    Suspect labels are those that at least eight of the ten nearest neighbours contradict with one
    voice, as a share of the samples whose neighbours have one voice. Cost: one distance matrix.
    """
    train = moment.train
    classes = None if train is None else train.classes
    if train is None or classes is None or not train.inputs.is_floating_point():
        return {}
    different = train.distinct()  # a copy of a sample would be its own nearest neighbour
    pick = different[np.random.default_rng(0).permutation(len(different))[:MOST]]
    rows, labels = train.rows(), classes[pick]
    if len(pick) < LEAST or len(labels.unique()) < 2:
        return {}
    tables = squared_distances(rows, pick)
    if not all(bool(table.isfinite().all()) for table in tables):
        return {}
    votes = max(
        (neighbours(table, labels) for table in tables),
        key=lambda counted: float((counted.argmax(1) == labels).double().mean()),
    )
    chance = labels.bincount().max() / len(labels)
    top, guess = votes.max(1)
    sure = top >= CONFIDENT
    seen: dict[Quantity, Reading] = {
        BASELINE_ACCURACY: {
            "nearest neighbours": (guess == labels).double().mean(),
            "linear": linear(rows, labels, pick=pick),
            "chance": chance,
            "samples": float(len(pick)),
        }
    }
    if int(sure.sum()) >= LEAST_SURE:
        seen[SUSPECT_LABELS] = {"": (guess[sure] != labels[sure]).double().mean()}
    return seen


def _standardised(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)) / (rows.std(0) + 1e-6)


def squared_distances(rows: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
    """Between the picked rows, [n, n]: as they are, and with each feature by its own scale.

    From products of some columns at a time, since a copy of all rows is memory that nothing has
    used yet.
    """
    plain, scaled = rows.new_zeros(2, len(pick), len(pick), dtype=torch.float32)
    for start in range(0, rows.shape[1], AT_ONCE):
        block = rows[:, start : start + AT_ONCE][pick].float()
        std, mean = torch.std_mean(block, 0)
        block.sub_(mean)  # which changes no distance, and keeps the products small
        plain.addmm_(block, block.T)
        block.div_(std + 1e-6)
        scaled.addmm_(block, block.T)
    return _from_products(plain), _from_products(scaled)


def _from_products(gram: Tensor) -> Tensor:
    """|a − b|² = |a|² + |b|² − 2ab."""
    squares = gram.diagonal()
    return squares[:, None] + squares - 2 * gram


def neighbours(distances: Tensor, labels: Tensor) -> Tensor:
    """For each row, how many of its ten nearest others have each class."""
    distances = distances.clone().fill_diagonal_(float("inf"))
    nearest = distances.topk(NEIGHBOURS, largest=False).indices
    return torch.nn.functional.one_hot(labels[nearest]).sum(1)


def linear(rows: Tensor, labels: Tensor, *, pick: Tensor) -> float:
    """Held-out accuracy of a ridge classifier, the mean over two folds of the picked rows."""
    if rows.shape[1] >= 4 * MOST:
        return float("nan")  # too wide for the normal equations
    rows = _standardised(rows[pick].float())
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1).double()
    wanted = torch.nn.functional.one_hot(labels).double()
    fold = torch.arange(len(rows)) % 2 == 0
    right = 0.0
    for part in (fold, ~fold):
        weights = ridge(rows[part], wanted[part], 0.1 * len(rows))
        right += float(((rows[~part] @ weights).argmax(1) == labels[~part]).sum())
    return right / len(rows)


def ridge(rows: Tensor, wanted: Tensor, penalty: float) -> Tensor:
    """(XᵀX + λI)⁻¹XᵀY, by the smaller of the two systems that give it: XᵀX or XXᵀ."""
    if rows.shape[1] <= len(rows):
        gram = rows.T @ rows + penalty * torch.eye(rows.shape[1], dtype=rows.dtype)
        return torch.as_tensor(torch.linalg.solve(gram, rows.T @ wanted))
    gram = rows @ rows.T + penalty * torch.eye(len(rows), dtype=rows.dtype)
    return rows.T @ torch.linalg.solve(gram, wanted)
