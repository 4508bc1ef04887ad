"""Near copies of samples: kept on one side of the splits that are made, and named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thalweg.data.caveat import Caveat
from thalweg.data.samples import SPLITS
from thalweg.wording import some

LARGEST_SHARE = 0.05  # of all samples in one family; a fixed camera makes most images alike
LEAST_FAMILY = 20  # samples, below which a family is not too large
CHANGES = {"image": "compressed, resized or cut anew"}  # that a near copy may have
WHY_ALIKE = {"image": ", as of a fixed camera"}
MOST_MISLABELLED = 0.5  # of the mirrored pairs; more show that a mirror image is another class


class CopyPairs(NamedTuple):
    """Pairs of rows that hold near copies, each int64 [pairs, 2] with its smaller row first."""

    upright: np.ndarray
    mirrored: np.ndarray  # one is near the other's mirror image

    def without_other_classes(
        self, targets: np.ndarray, mirror_keeps_class: Callable[[], bool]
    ) -> "CopyPairs":
        """Leave out mirrored pairs with different targets, where a mirror image may change them.

        It may if half of the mirrored pairs differ, or if `mirror_keeps_class` cannot deny it. It
        is called only if some differ.
        """
        first, second = targets[self.mirrored[:, 0]], targets[self.mirrored[:, 1]]
        differ = first != second
        if differ.ndim > 1:  # of several labels, all must agree
            differ = differ.any(axis=1)
        if not differ.any() or (differ.mean() < MOST_MISLABELLED and mirror_keeps_class()):
            return self
        return self._replace(mirrored=self.mirrored[~differ])


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Families of near copies among samples."""

    digests: np.ndarray  # uint8 [n, 16], of each sample's content
    families: np.ndarray  # uint8 [n, 16], equal within a family; of other samples their content's
    rows: np.ndarray  # int64, of the samples that are in a family
    alike: int = 0  # samples of families that are too large to be copies
    mirrored: int = 0  # pairs of different contents that are near each other's mirror image
    noun: str = "image"  # for a sample

    def share(self, indices: Mapping[str, np.ndarray]) -> float:
        """The share of the validation samples that are near copies of training samples.

        Exact copies are not counted.
        """
        parts = (indices[name] for name in ("train", "val"))
        train, val = (part[np.isin(part, self.rows)] for part in parts)
        own = {digest.tobytes() for digest in self.digests[train]}
        near = {family.tobytes() for family in self.families[train]}
        count = sum(
            family.tobytes() in near and digest.tobytes() not in own
            for family, digest in zip(self.families[val], self.digests[val], strict=True)
        )
        return count / max(1, len(indices["val"]))

    def notes(
        self, targets: np.ndarray, *, indices: Mapping[str, np.ndarray], names: Sequence[str]
    ) -> list[str]:
        """Notes on near copies: their number, examples, and those in two splits or classes."""
        notes: list[str] = []
        if self.alike:
            why = WHY_ALIKE.get(self.noun, "")
            notes.append(f"{self.alike:,} {self.noun}s look alike{why}: not taken for copies")
        members = self._members(indices)
        if not members:
            return notes
        extra = sum(len(rows) - 1 for rows in members)
        across = [rows for rows in members if len(set(rows.values())) > 1]
        examples = some([_example(rows, names) for rows in across or members])
        mirrored = f"; {self.mirrored:,} pairs mirrored" if self.mirrored else ""
        changes = CHANGES.get(self.noun, "changed a little")
        subject = f"{extra:,} {self.noun}s are near copies of others ({changes}{mirrored})"
        if across:
            text = f"{len(across):,} near copies stand in more than one split: {examples}"
            notes += [subject, Caveat(text, "Near copies across the splits")]
        else:
            notes.append(
                f"{subject}; they stay in one split, --data.group none splits them: {examples}"
            )
        mislabelled = [rows for rows in members if len(np.unique(targets[list(rows)], axis=0)) > 1]
        if mislabelled:
            pairs = some([" ≈ ".join(names[row] for row in list(r)[:2]) for r in mislabelled])
            notes.append(f"{len(mislabelled):,} near copies bear more than one label: {pairs}")
        return notes

    def _members(self, indices: Mapping[str, np.ndarray]) -> list[dict[int, str]]:
        """Row → split of each family; of exact copies in one split the first alone."""
        by_family: dict[bytes, dict[tuple[bytes, str], int]] = {}
        for split in SPLITS:
            rows = indices[split]
            for row in rows[np.isin(rows, self.rows)].tolist():
                family = by_family.setdefault(self.families[row].tobytes(), {})
                family.setdefault((self.digests[row].tobytes(), split), row)
        return [
            {row: split for (_, split), row in family.items()}
            for family in by_family.values()
            if len({digest for digest, _ in family}) > 1
        ]


def link_near_copies(
    digests: np.ndarray, pairs: CopyPairs | None, *, noun: str = "image"
) -> NearCopies | None:
    """Link pairs of near copies to families; None where there are no pairs to know.

    The digest of a family is the least of its members', so that it follows from contents alone.
    Families of more than 5 % of the samples are what a fixed camera sees, and are not linked.
    """
    if pairs is None:
        return None
    joined = np.concatenate(pairs)
    if not len(joined):
        return NearCopies(digests, digests, np.zeros(0, dtype=np.int64), noun=noun)
    distinct, contents = np.unique(digests, axis=0, return_inverse=True)
    contents = contents.reshape(-1)
    homes = _homes(len(distinct), contents[joined])  # the least content, as they are sorted
    sizes = np.bincount(homes[contents], minlength=len(distinct))  # samples
    largest = max(LEAST_FAMILY, int(LARGEST_SHARE * len(digests)))
    is_linked = (np.bincount(homes, minlength=len(distinct)) > 1)[homes]
    is_family = is_linked & (sizes <= largest)[homes]
    homes = np.where(is_family, homes, np.arange(len(distinct)))
    mirrored = np.unique(np.sort(contents[pairs.mirrored], axis=1), axis=0)
    return NearCopies(
        digests,
        families=distinct[homes[contents]],
        rows=np.flatnonzero(is_family[contents]),
        alike=int((is_linked & ~is_family)[contents].sum()),
        mirrored=int(is_family[mirrored[:, 0]].sum()),
        noun=noun,
    )


def _homes(count: int, pairs: np.ndarray) -> np.ndarray:
    """The least number that each of 0 to count − 1 is linked to, over any number of pairs."""
    parents = list(range(count))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for first, second in pairs.tolist():
        one, other = root(first), root(second)
        parents[max(one, other)] = min(one, other)
    return np.array([root(row) for row in range(count)], dtype=np.int64)


def _example(rows: Mapping[int, str], names: Sequence[str]) -> str:
    """Two near copies, of different splits if there are such, with their splits."""
    first = next(iter(rows))
    second = next((row for row in rows if rows[row] != rows[first]), list(rows)[1])
    if rows[first] == rows[second]:
        return f"{names[first]} ≈ {names[second]}"
    return f"{rows[first]}: {names[first]} ≈ {rows[second]}: {names[second]}"
