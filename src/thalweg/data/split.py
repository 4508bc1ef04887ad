"""Who trains, who validates: given splits are kept; else held out by content, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from thalweg.data.samples import SPLITS, UNSPLIT
from thalweg.errors import DataError, UsageError
from thalweg.wording import some

TRAIN, VAL, TEST = range(3)
IMBALANCED = 10  # times as many samples of one class as of another are worth a word


TEST_SEED = 0x7E57  # not the user's: another seed must not bring test samples into training


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """What is held out where the data do not say it themselves."""

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    folds: int = 0  # parts that validate in turn, whatever split is given; 0: one split
    fold: int = 1  # which of them validates, from 1
    seed: int = 0  # of everything but the test split

    def check(self) -> None:
        """Raises: UsageError for what cannot be meant."""
        if not 0 < self.val_fraction < 1:
            raise UsageError(
                f"val_fraction cannot be {self.val_fraction}", fix="between 0 and 1, as 0.2"
            )
        if not 0 <= self.test_fraction < 1:
            raise UsageError(
                f"test_fraction cannot be {self.test_fraction}", fix="from 0 to below 1, as 0.2"
            )
        if self.folds and not (self.folds > 1 and 1 <= self.fold <= self.folds):
            raise UsageError(
                "no such fold",
                seen=f"fold {self.fold} of {self.folds}",
                fix="at least 2 folds; a fold from 1 to their number",
            )


def split_rows(
    digests: np.ndarray, classes: np.ndarray, *, given: np.ndarray, held: Holdout
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rows of each split, in order, and what was done.

    `digests` are the rows' contents, uint8 [n, 16]; `classes` int64 [n] (all 0 for regression);
    `given` int8 [n]. Raises DataError when a split that is needed would be empty.
    """
    codes, notes = _with_test(digests, classes, given=given, fraction=held.test_fraction)
    rows = np.flatnonzero(codes != TEST)
    if held.folds:
        codes[rows] = fold_of(digests[rows], classes[rows], held=held)
        notes.append(f"split: {_counts(codes)}, fold {held.fold} of {held.folds}")
    elif (given == UNSPLIT).all():
        codes[rows] = hold_out(
            digests[rows], classes[rows], fraction=held.val_fraction, seed=held.seed
        )
        notes.append(f"split: {_counts(codes)}, held out by content with seed {held.seed}")
    else:
        notes += _complete(codes, digests, classes, held=held)
        notes.append(f"split: {_counts(codes)}, as given")
    _need(codes, TRAIN, "give more samples")
    _need(codes, VAL, "give at least two samples of a class, or a folder val/")
    return {name: np.flatnonzero(codes == code) for code, name in enumerate(SPLITS)}, notes


def _with_test(
    digests: np.ndarray, classes: np.ndarray, *, given: np.ndarray, fraction: float
) -> tuple[np.ndarray, list[str]]:
    """The given codes, with a test split held out where one is wanted and none is given."""
    codes = given.copy()
    if not fraction:
        return codes, []
    if (given == TEST).any():
        return codes, ["test_fraction is not used: the data bring a test split"]
    rows = np.flatnonzero(given != VAL)
    held = hold_out(digests[rows], classes[rows], fraction=fraction, seed=TEST_SEED) == VAL
    codes[rows[held]] = TEST
    return codes, [f"test: {held.sum():,} samples held out, hidden until `thalweg final RUN`"]


def _complete(
    codes: np.ndarray, digests: np.ndarray, classes: np.ndarray, *, held: Holdout
) -> list[str]:
    """Give every sample a split where some bring one: to train, and of train some to val."""
    notes = []
    if (loose := int((codes == UNSPLIT).sum())) > 0:
        codes[codes == UNSPLIT] = TRAIN
        notes.append(f"{loose:,} samples name no split: taken to train")
    _need(codes, TRAIN, "give samples to train on")
    if not (codes == VAL).any():
        rows = np.flatnonzero(codes == TRAIN)
        codes[rows] = hold_out(
            digests[rows], classes[rows], fraction=held.val_fraction, seed=held.seed
        )
        notes.append(f"no validation split is given: {held.val_fraction:.0%} of train held out")
    return notes


def fold_of(digests: np.ndarray, classes: np.ndarray, *, held: Holdout) -> np.ndarray:
    """VAL for the rows of that fold, TRAIN for the others, int8.

    Contents are dealt out like cards, class by class, so that each fold has its share of each
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
    hands = np.empty(len(order), dtype=np.int64)
    hands[order] = np.arange(len(order)) % held.folds
    return np.where(hands[members] == held.fold - 1, VAL, TRAIN).astype(np.int8)


def hold_out(digests: np.ndarray, classes: np.ndarray, *, fraction: float, seed: int) -> np.ndarray:
    """TRAIN or VAL for each row, int8: of every class the `fraction` whose keyed digests are least.

    The order depends on content and seed alone, so a sample that is added moves at most one other.
    Equal contents go together; a class of one content trains.
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
    """Which groups, sorted by class, are the first that make up the fraction of their class.

    At least one, and never all: a class of one group gives none.
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
    """The least class among each group's members: equal contents may bear different labels."""
    homes = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(homes, members, classes)
    return homes


def _key(digest: np.ndarray, seed: int) -> int:
    keyed = blake2b(digest.tobytes(), digest_size=8, key=seed.to_bytes(16, "little", signed=True))
    return int.from_bytes(keyed.digest(), "little")


def _counts(codes: np.ndarray) -> str:
    counts = np.bincount(codes, minlength=len(SPLITS))
    return ", ".join(f"{n:,} {name}" for name, n in zip(SPLITS, counts, strict=True) if n)


def _need(codes: np.ndarray, split: int, fix: str) -> None:
    if not (codes == split).any():
        raise DataError(f"no sample is left for {SPLITS[split]}", seen=_counts(codes), fix=fix)


def duplicate_notes(
    digests: np.ndarray,
    targets: np.ndarray,
    *,
    indices: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> list[str]:
    """Equal contents: how many, and which stand in two splits or bear two labels."""
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
    notes = [f"{extra:,} samples are exact copies of others; copies stay in one split"]
    across = [g for g in groups if len(set(codes[g])) > 1]
    if across:
        notes[0] = f"{extra:,} samples are exact copies of others"
        pairs = [" = ".join(f"{SPLITS[codes[i]]}: {names[rows[i]]}" for i in g[:2]) for g in across]
        notes.append(f"{len(across):,} contents stand in more than one split: {some(pairs)}")
    torn = [g for g in groups if len(set(targets[rows[g]].tolist())) > 1]
    if torn:
        pairs = [" = ".join(names[rows[i]] for i in g[:2]) for g in torn]
        notes.append(f"{len(torn):,} contents bear more than one label: {some(pairs)}")
    return notes


def class_notes(
    targets: np.ndarray, class_names: Sequence[str], indices: Mapping[str, np.ndarray]
) -> list[str]:
    """Classes that cannot be learned, cannot be judged, or are much rarer than others."""
    if not class_names:
        return []
    train, val = (
        np.bincount(targets[indices[name]], minlength=len(class_names)) for name in ("train", "val")
    )
    notes = []
    if unseen := [class_names[int(i)] for i in np.flatnonzero(train == 0)]:
        notes.append(f"{len(unseen):,} classes have no sample in train: {some(unseen)}")
    if unjudged := [class_names[int(i)] for i in np.flatnonzero((val == 0) & (train > 0))]:
        notes.append(f"{len(unjudged):,} classes have no sample in val: {some(unjudged)}")
    least, most = int(train[train > 0].min()), int(train.max())
    if most > IMBALANCED * least:
        rare, common = (class_names[int((train == count).argmax())] for count in (least, most))
        notes.append(f"imbalanced: {most:,} samples of {common} to {least:,} of {rare} in train")
    return notes
