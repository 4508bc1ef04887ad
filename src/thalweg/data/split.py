"""Split the samples: keep splits in the data, else hold samples out by content, per class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from thalweg.data.caveat import Caveat
from thalweg.data.samples import SPLITS, UNSPLIT
from thalweg.errors import DataError, UsageError
from thalweg.wording import count, some

TRAIN, VAL, TEST = range(3)
IMBALANCED = 10  # ratio of the largest to the smallest class, from which on a note says so
CLASSES, COPIES, STAND, BEAR, NAME = (  # in the singular, and in the plural
    ("class has", "classes have"),
    ("sample is an exact copy of another", "samples are exact copies of others"),
    ("content stands", "contents stand"),
    ("content bears", "contents bear"),
    ("sample names", "samples name"),
)
TEST_SEED = 0x7E57  # fixed: another seed of the user must not bring test samples into training


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """The parts to hold out if the data name no splits."""

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    folds: int = 0  # number of folds, which replace a split in the data; 0: one split
    fold: int = 1  # the fold that validates, from 1
    seed: int = 0  # of all but the test split

    def divides(self, given_splits: np.ndarray) -> bool:
        """Return whether samples are held out, and not only the splits in the data taken."""
        held = bool(self.folds) or not (given_splits == VAL).any()
        return held or bool(self.test_fraction and not (given_splits == TEST).any())

    def check(self) -> None:
        """Raise UsageError for impossible values."""
        if not 0 < self.val_fraction < 1:
            raise UsageError(
                f"val_fraction cannot be {self.val_fraction}", fix="between 0 and 1, as 0.2"
            )
        if not 0 <= self.test_fraction < 1:
            raise UsageError(
                f"test_fraction cannot be {self.test_fraction}", fix="from 0 to below 1, as 0.2"
            )
        if not self.folds and self.fold > 1:
            raise UsageError(
                "a fold is one of several, and no folds were asked for",
                seen=f"data.fold = {self.fold}, data.folds = 0",
                fix=f"--data.folds {max(5, self.fold)} --data.fold {self.fold}",
            )
        if self.folds and not (self.folds > 1 and 1 <= self.fold <= self.folds):
            raise UsageError(
                "no such fold",
                seen=f"fold {self.fold} of {self.folds}",
                fix="at least 2 folds; a fold from 1 to their number",
            )


def split_rows(
    digests: np.ndarray, classes: np.ndarray, *, given_splits: np.ndarray, held: Holdout
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rows of each split, in order, and notes.

    `digests` are the rows' contents, uint8 [n, 16]; `classes` int64 [n] (all 0 for regression);
    `given_splits` int8 [n]. Raises DataError if train or val would be empty.
    """
    _check_varies(digests)
    codes, notes = _with_test(
        digests, classes, given_splits=given_splits, fraction=held.test_fraction
    )
    rows = np.flatnonzero(codes != TEST)
    if held.folds:
        codes[rows] = fold_of(digests[rows], classes[rows], held=held)
        notes.append(f"split: {_counts(codes)}, fold {held.fold} of {held.folds}")
    elif (given_splits == UNSPLIT).all():
        codes[rows] = hold_out(
            digests[rows], classes[rows], fraction=held.val_fraction, seed=held.seed
        )
        notes.append(f"split: {_counts(codes)}, held out by content with seed {held.seed}")
    else:
        notes += _complete(codes, digests, classes, held=held)
        held_too = "; val held out of train" if not (given_splits == VAL).any() else ""
        notes.append(f"split: {_counts(codes)}, as given{held_too}")
    _require_samples(codes, TRAIN, "give more samples")
    _require_samples(codes, VAL, "give at least two samples of a class, or a folder val/")
    return {name: np.flatnonzero(codes == code) for code, name in enumerate(SPLITS)}, notes


def _check_varies(digests: np.ndarray) -> None:
    """Raise DataError where all samples have one content: nothing tells them apart."""
    if len(digests) > 1 and (digests == digests[:1]).all():
        raise DataError(
            "all samples have the same content: nothing tells them apart",
            seen=f"{len(digests):,} copies",
            fix="check how the data were made, or give other samples",
        )


def _with_test(
    digests: np.ndarray, classes: np.ndarray, *, given_splits: np.ndarray, fraction: float
) -> tuple[np.ndarray, list[str]]:
    """The splits in the data, with a test split held out if one is asked for and missing."""
    codes = given_splits.copy()
    if not fraction:
        return codes, []
    if (given_splits == TEST).any():
        return codes, ["test_fraction is not used: the data bring a test split"]
    rows = np.flatnonzero(given_splits != VAL)
    held = hold_out(digests[rows], classes[rows], fraction=fraction, seed=TEST_SEED) == VAL
    codes[rows[held]] = TEST
    return codes, [f"test: {held.sum():,} samples held out, hidden until `thalweg final RUN`"]


def _complete(
    codes: np.ndarray, digests: np.ndarray, classes: np.ndarray, *, held: Holdout
) -> list[str]:
    """Assign samples without a split to train, and hold out a part of train if val is missing."""
    notes = []
    if (loose := int((codes == UNSPLIT).sum())) > 0:
        codes[codes == UNSPLIT] = TRAIN
        notes.append(f"{count(loose, *NAME)} no split: taken to train")
    _require_samples(codes, TRAIN, "give samples to train on")
    if not (codes == VAL).any():
        rows = np.flatnonzero(codes == TRAIN)
        codes[rows] = hold_out(
            digests[rows], classes[rows], fraction=held.val_fraction, seed=held.seed
        )
        notes.append(f"no validation split is given: {held.val_fraction:.0%} of train held out")
    return notes


def fold_of(digests: np.ndarray, classes: np.ndarray, *, held: Holdout) -> np.ndarray:
    """VAL for the rows of the fold, TRAIN for the others, int8.

    Contents are dealt to the folds in turn, class by class, so that each fold has its share of each
    class and every sample validates in exactly one fold. Equal contents stay together.
    Raises: DataError for fewer different contents than folds.
    """
    members, order, _ = _ordered(digests, classes, held.seed)
    if len(order) < held.folds:
        raise DataError(
            f"too few samples for {held.folds} folds",
            seen=f"{len(order):,} different ones",
            fix="fewer folds, or more samples",
        )
    folds = np.empty(len(order), dtype=np.int64)
    folds[order] = np.arange(len(order)) % held.folds
    return np.where(folds[members] == held.fold - 1, VAL, TRAIN).astype(np.int8)


def hold_out(digests: np.ndarray, classes: np.ndarray, *, fraction: float, seed: int) -> np.ndarray:
    """TRAIN or VAL for each row, int8; VAL: the `fraction` of each class with least keyed digests.

    The order depends on content and seed alone, so an added sample moves at most one other. Equal
    contents stay together; a class with one content trains.
    """
    members, order, homes = _ordered(digests, classes, seed)
    sizes = np.bincount(members, minlength=len(order))
    held = np.zeros(len(order), dtype=bool)
    held[order] = _first_of_each(homes[order], sizes[order], fraction)
    return np.where(held[members], VAL, TRAIN).astype(np.int8)


def _ordered(
    digests: np.ndarray, classes: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's group of equal contents; the groups class by class, shuffled; their classes."""
    groups, members = np.unique(digests, axis=0, return_inverse=True)
    members = members.reshape(-1)
    keys = np.array([_key(group, seed) for group in groups], dtype=np.uint64)
    homes = _least_class(classes, members, len(groups))
    return members, np.lexsort((keys, homes)), homes


def _first_of_each(homes: np.ndarray, sizes: np.ndarray, fraction: float) -> np.ndarray:
    """Mask of the groups, sorted by class, that make up the first `fraction` of their class.

    At least one group and never all: a class of one group gives none.
    """
    starts = np.flatnonzero(np.diff(homes, prepend=homes[0] - 1))
    ends = np.append(starts[1:], len(homes)) - 1
    totals = np.add.reduceat(sizes, starts)
    quotas = np.maximum(1, np.round(fraction * totals))
    before = np.cumsum(sizes)[starts] - sizes[starts]
    lengths = ends - starts + 1
    so_far = np.cumsum(sizes) - np.repeat(before, lengths)
    chosen = so_far <= np.repeat(quotas, lengths)
    chosen[starts] = True
    chosen[ends] = False
    return np.asarray(chosen)


def _least_class(classes: np.ndarray, members: np.ndarray, groups: int) -> np.ndarray:
    """The smallest class among each group's members: equal contents may have different labels."""
    homes = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(homes, members, classes)
    return homes


def _key(digest: np.ndarray, seed: int) -> int:
    keyed = blake2b(digest.tobytes(), digest_size=8, key=seed.to_bytes(16, "little", signed=True))
    return int.from_bytes(keyed.digest(), "little")


def _counts(codes: np.ndarray) -> str:
    counts = np.bincount(codes, minlength=len(SPLITS))
    return ", ".join(f"{n:,} {name}" for name, n in zip(SPLITS, counts, strict=True) if n)


def _require_samples(codes: np.ndarray, split: int, fix: str) -> None:
    if not (codes == split).any():
        raise DataError(f"no sample is left for {SPLITS[split]}", seen=_counts(codes), fix=fix)


def duplicate_notes(
    digests: np.ndarray,
    targets: np.ndarray,
    *,
    indices: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> list[str]:
    """Notes on equal contents: their number, and those in two splits or with two labels."""
    rows = np.concatenate([indices[name] for name in SPLITS])
    codes = np.concatenate([np.full(len(indices[name]), i) for i, name in enumerate(SPLITS)])
    _, members = np.unique(digests[rows], axis=0, return_inverse=True)
    members = members.reshape(-1)
    order = np.argsort(members, kind="stable")
    bounds = np.flatnonzero(np.diff(members[order])) + 1
    groups = [group for group in np.split(order, bounds) if len(group) > 1]
    if not groups:
        return []
    extra = sum(len(group) - 1 for group in groups)
    notes = [f"{count(extra, *COPIES)}; copies stay in one split"]
    across = [g for g in groups if len(set(codes[g])) > 1]
    if across:
        notes[0] = count(extra, *COPIES)
        pairs = [" = ".join(f"{SPLITS[codes[i]]}: {names[rows[i]]}" for i in g[:2]) for g in across]
        text = f"{count(len(across), *STAND)} in more than one split: {some(pairs)}"
        notes.append(Caveat(text, "Duplicates across the splits"))
    mislabelled = [g for g in groups if len(np.unique(targets[rows[g]], axis=0)) > 1]
    if mislabelled:
        pairs = [" = ".join(names[rows[i]] for i in g[:2]) for g in mislabelled]
        notes.append(f"{count(len(mislabelled), *BEAR)} more than one label: {some(pairs)}")
    return notes


def class_notes(class_names: Sequence[str], *, train: np.ndarray, val: np.ndarray) -> list[str]:
    """Notes on classes without samples in train or val, or much rarer than others, by counts."""
    notes: list[str] = []
    if untrained := [class_names[int(i)] for i in np.flatnonzero(train == 0)]:
        text = f"{count(len(untrained), *CLASSES)} no sample in train: {some(untrained)}"
        notes.append(Caveat(text, "Classes without training samples"))
    if unvalidated := [class_names[int(i)] for i in np.flatnonzero((val == 0) & (train > 0))]:
        notes.append(f"{count(len(unvalidated), *CLASSES)} no sample in val: {some(unvalidated)}")
    least, most = int(train[train > 0].min()), int(train.max())
    if most > IMBALANCED * least:
        rare, common = (class_names[int((train == size).argmax())] for size in (least, most))
        notes.append(f"imbalanced: {most:,} samples of {common} to {least:,} of {rare} in train")
    return notes
