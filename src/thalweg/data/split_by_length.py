"""Hold out the samples with the longest targets: does a network go on where its data end?"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.data.samples import Samples
from thalweg.data.split import TEST, TRAIN, VAL, Holdout
from thalweg.errors import DataError, UsageError


def split_by_length(
    samples: Samples, lengths: Callable[[Any], np.ndarray] | None, holdout: Holdout
) -> Samples:
    """The samples with those of the longest targets in the validation split, the others in train.

    About `val_fraction` of them validate: all that are longer than one length. A test split stays.
    Source: Lake & Baroni 2018, https://arxiv.org/abs/1711.00350, experiment 2.
    Raises: UsageError where targets have no length, or for folds; DataError where all are equal.
    """
    if lengths is None or holdout.folds:
        raise UsageError(
            "only sequences are split by their length"
            if lengths is None
            else "folds are not split by length",
            seen="data.split=length",
            fix="--split random",
        )
    sizes = np.asarray(lengths(samples.inputs))
    rows = np.flatnonzero(samples.splits != TEST)
    shares = {length: float((sizes[rows] > length).mean()) for length in np.unique(sizes[rows])}
    cuts = {length: share for length, share in shares.items() if 0 < share < 1}
    if not cuts:
        raise DataError(
            "all targets are equally long: there is no length to split by",
            seen=f"{len(rows):,} targets of {int(sizes[rows].max(initial=0)):,}",
            fix="--split random",
        )
    cut = min(cuts, key=lambda length: abs(cuts[length] - holdout.val_fraction))
    codes = np.where(sizes > cut, VAL, TRAIN).astype(np.int8)
    codes[samples.splits == TEST] = TEST
    note = (
        f"split by length: targets of up to {int(cut):,} train, longer ones validate, "
        f"up to {int(sizes[rows].max()):,}"
    )
    return replace(samples, splits=codes, notes=(*samples.notes, note))
