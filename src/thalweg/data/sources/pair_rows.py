"""Rows of pairs as a file lists them → samples; rows that cannot be used are quarantined."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.samples import UNSPLIT, Quarantined, Samples
from thalweg.data.text.pairs import WORDY, Pairs, target_texts
from thalweg.errors import DataError, printable

MOST_TARGET = 1_000  # words or characters of a target: each is a step that is written


class PairRow(NamedTuple):
    """A pair, and the line that it stands in."""

    name: str
    source: str
    target: str
    split: int = UNSPLIT


@dataclass(slots=True, kw_only=True)
class PairRows:
    """The pairs of one file or of several."""

    source_name: str
    target_name: str
    rows: list[PairRow] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, rows: Iterable[PairRow]) -> None:
        """Add rows; those without a text on either side are quarantined."""
        for row in rows:
            if not row.source.strip():
                self.quarantined.append(Quarantined(row.name, f"no {self.source_name}"))
            elif not row.target.strip():
                self.quarantined.append(Quarantined(row.name, f"no {self.target_name}"))
            else:
                self.rows.append(row)


def pair_samples(path: Path, pairs: PairRows) -> Samples:
    """The samples of the pairs at a path. Raises DataError where there are none."""
    noun = _noun(pairs.rows)
    rows = []
    for row in pairs.rows:
        length = len(row.target.split()) if noun == "words" else len(row.target)
        if length > MOST_TARGET:
            reason = f"a {pairs.target_name} of {length:,} {noun}: more than {MOST_TARGET:,}"
            pairs.quarantined.append(Quarantined(row.name, reason))
        else:
            rows.append(row)
    if not rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in pairs.quarantined[:3])
        raise DataError(f"{path} has no pair that can be used", seen=reasons or "no rows")
    sources = tuple(row.source.strip() for row in rows)
    targets = tuple(row.target.strip() for row in rows)
    return Samples(
        inputs=Pairs(sources, targets, pairs.source_name, pairs.target_name),
        names=tuple(printable(row.name) for row in rows),
        labels=target_texts(targets),
        splits=np.array([row.split for row in rows], dtype=np.int8),
        label_place=f"the {pairs.target_name}s of {path.name}",
        quarantined=tuple(pairs.quarantined),
        notes=tuple(pairs.notes),
    )


def _noun(rows: Sequence[PairRow]) -> str:
    words = sum(len(row.target.split()) for row in rows)
    return "words" if words >= WORDY * len(rows) else "characters"
