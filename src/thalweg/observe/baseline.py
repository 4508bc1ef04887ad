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
    rows, labels = train.rows()[pick].float(), classes[pick]
    if len(rows) < LEAST or len(labels.unique()) < 2 or not bool(rows.isfinite().all()):
        return {}
    votes = max(
        (neighbours(scaled, labels) for scaled in (rows, _standardised(rows))),
        key=lambda counted: float((counted.argmax(1) == labels).double().mean()),
    )
    chance = labels.bincount().max() / len(labels)
    top, guess = votes.max(1)
    sure = top >= CONFIDENT
    seen: dict[Quantity, Reading] = {
        BASELINE_ACCURACY: {
            "nearest neighbours": (guess == labels).double().mean(),
            "linear": linear(rows, labels),
            "chance": chance,
            "samples": float(len(rows)),
        }
    }
    if int(sure.sum()) >= LEAST_SURE:
        seen[SUSPECT_LABELS] = {"": (guess[sure] != labels[sure]).double().mean()}
    return seen


def _standardised(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)) / (rows.std(0) + 1e-6)


def neighbours(rows: Tensor, labels: Tensor) -> Tensor:
    """For each row, how many of its ten nearest others have each class."""
    distances = torch.cdist(rows, rows)
    distances.fill_diagonal_(float("inf"))
    nearest = distances.topk(NEIGHBOURS, largest=False).indices
    return torch.nn.functional.one_hot(labels[nearest]).sum(1)


def linear(rows: Tensor, labels: Tensor) -> float:
    """Held-out accuracy of a ridge classifier, the mean over two folds."""
    if rows.shape[1] >= 4 * MOST:
        return float("nan")  # too wide for the normal equations
    rows = torch.cat([_standardised(rows), torch.ones(len(rows), 1)], 1).double()
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
