"""Simple classifiers on the same samples: is there anything to learn, and is it learned?"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import BASELINE_ACCURACY, SUSPECT_LABELS

NEIGHBOURS = 10
UNANIMOUS = 8  # of ten neighbours that agree
MOST = 1024  # samples; the cost is that of one distance matrix
LEAST = 100
AT_ONCE = 4096  # features
LEAST_UNANIMOUS = 50  # samples whose neighbours agree; noise makes them few


@instrument(BASELINE_ACCURACY, SUSPECT_LABELS, when="samples")
def baselines(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Accuracy of nearest neighbours and of a linear classifier, each out of fold, and of chance.

    Suspect labels are those that at least eight of the ten nearest neighbours contradict with one
    voice, as a share of the samples whose neighbours have one voice. Cost: one distance matrix.
    """
    train = moment.train
    classes = moment.class_labels(train)
    if train is None or classes is None or not train.inputs.is_floating_point():
        return {}
    distinct = train.distinct_rows()  # a copy of a sample would be its own nearest neighbour
    pick = distinct[np.random.default_rng(0).permutation(len(distinct))[:MOST]]
    rows, labels = train.rows(), classes[pick]
    if len(pick) < LEAST or len(labels.unique()) < 2:
        return {}
    tables = squared_distances(rows, pick)
    if not all(bool(table.isfinite().all()) for table in tables):
        return {}
    votes = max(
        (neighbour_votes(table, labels) for table in tables),
        key=lambda counts: float((counts.argmax(1) == labels).double().mean()),
    )
    top, guess = votes.max(1)
    unanimous = top >= UNANIMOUS
    measured: dict[Quantity, Measurements] = {
        BASELINE_ACCURACY: {
            "nearest neighbours": (guess == labels).double().mean(),
            "linear": linear_accuracy(rows, labels, pick=pick),
            "chance": labels.bincount().max() / len(labels),
            "samples": float(len(pick)),
        }
    }
    if int(unanimous.sum()) >= LEAST_UNANIMOUS:
        contradicted = guess[unanimous] != labels[unanimous]
        measured[SUSPECT_LABELS] = {"": contradicted.double().mean()}
    return measured


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


def neighbour_votes(distances: Tensor, labels: Tensor) -> Tensor:
    """Count the classes of each row's ten nearest others: [row, class]."""
    distances = distances.clone().fill_diagonal_(float("inf"))
    nearest = distances.topk(NEIGHBOURS, largest=False).indices
    return torch.nn.functional.one_hot(labels[nearest]).sum(1)


def linear_accuracy(rows: Tensor, labels: Tensor, *, pick: Tensor) -> float:
    """Held-out accuracy of a ridge classifier, the mean over two folds of the picked rows."""
    if rows.shape[1] >= 4 * MOST:
        return float("nan")  # too wide for the normal equations
    rows = _standardised(rows[pick].float())
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1).double()
    one_hot = torch.nn.functional.one_hot(labels).double()
    fold = torch.arange(len(rows)) % 2 == 0
    right = 0.0
    for part in (fold, ~fold):
        weights = ridge(rows[part], one_hot[part], 0.1 * len(rows))
        right += float(((rows[~part] @ weights).argmax(1) == labels[~part]).sum())
    return right / len(rows)


def _standardised(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)) / (rows.std(0) + 1e-6)


def ridge(rows: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """(XᵀX + λI)⁻¹XᵀY, by the smaller of the two systems that give it: XᵀX or XXᵀ."""
    if rows.shape[1] <= len(rows):
        gram = rows.T @ rows + penalty * torch.eye(rows.shape[1], dtype=rows.dtype)
        return torch.as_tensor(torch.linalg.solve(gram, rows.T @ targets))
    gram = rows @ rows.T + penalty * torch.eye(len(rows), dtype=rows.dtype)
    return rows.T @ torch.linalg.solve(gram, targets)
