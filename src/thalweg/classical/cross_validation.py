"""Cross-validation: k folds, repeated random splits, and scores over them.

Folds share training samples, so that the spread over folds is smaller than the spread over fresh
data (Bengio & Grandvalet 2004, https://www.jmlr.org/papers/v5/grandvalet04a.html): good for
choosing, too small as an error bar.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from jaxtyping import Shaped
from torch import Tensor

from thalweg.classical.checks import check_count
from thalweg.errors import DataError, UsageError

Split = tuple[Tensor, Tensor]  # rows to train on, rows to validate on


@dataclass(frozen=True, slots=True)
class Score:
    """One value for each split, in the unit of the score."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def std(self) -> float:
        """The sample standard deviation over the splits (n − 1); 0 for a single one."""
        return stdev(self.values) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.std:.2g}"


def folds(targets: Shaped[Tensor, " sample"], *, num_folds: int, seed: int = 0) -> list[Split]:
    """Split so that every sample validates in exactly one fold; sizes differ by at most one.

    Class indices (int64) are stratified: every fold has each class in its share. Other targets are
    shuffled.
    Raises: UsageError for fewer than 2 folds or more folds than samples.
    """
    check_count(num_folds, name="num_folds", most=len(targets), of="the number of samples")
    if num_folds == 1:
        raise UsageError("one fold leaves nothing to train on", seen="num_folds=1", fix="5")
    order = _permutation(len(targets), seed)
    if targets.dtype == torch.int64:
        # Samples are dealt to the folds class by class; a stable sort keeps the shuffle in a class.
        order = order[targets.cpu()[order].argsort(stable=True)]
    val_rows = [order[fold::num_folds].sort().values for fold in range(num_folds)]
    return [_split(rows, len(targets), targets.device) for rows in val_rows]


def repeated_splits(
    targets: Shaped[Tensor, " sample"],
    *,
    repeats: int,
    val_fraction: float = 0.2,
    seed: int = 0,
) -> list[Split]:
    """Draw independent random splits with about `val_fraction` of every class for validation.

    Raises: UsageError for a fraction outside (0, 1); DataError if a part would be empty.
    """
    if not 0 < val_fraction < 1:
        raise UsageError("val_fraction lies between 0 and 1", seen=str(val_fraction), fix="0.2")
    check_count(repeats, name="repeats", most=10**6, of="at least one")
    splits = []
    for repeat in range(repeats):
        order = _permutation(len(targets), seed + repeat)
        if targets.dtype == torch.int64:
            order = order[targets.cpu()[order].argsort(stable=True)]
        # Every (1 / fraction)-th sample, from a random start, so that each class gives its share.
        marks = (torch.arange(len(order)) + _offset(seed + repeat)) * val_fraction
        val_rows = order[marks.floor() != (marks + val_fraction).floor()].sort().values
        if not 0 < len(val_rows) < len(order):
            raise DataError(
                "a split would have an empty part",
                seen=f"{len(val_rows)} of {len(order)} samples for validation",
                fix="more samples, or another val_fraction",
            )
        splits.append(_split(val_rows, len(targets), targets.device))
    return splits


def cross_validate(score: Callable[[Tensor, Tensor], float], splits: list[Split]) -> Score:
    """Evaluate `score(train_rows, val_rows)` on every split."""
    return Score(tuple(score(train, val) for train, val in splits))


def _permutation(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _offset(seed: int) -> float:
    return torch.rand((), generator=torch.Generator().manual_seed(seed)).item() * 1e3


def _split(val: Tensor, count: int, device: torch.device) -> Split:
    held_out = torch.zeros(count, dtype=torch.bool)
    held_out[val] = True
    return (~held_out).nonzero()[:, 0].to(device), val.to(device)
