"""Pairs of sequences: sources as read, and the targets to write from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from thalweg.data.rows import Rows

WORDY = 1.5  # words a text, in the mean, from which on its length is that in words


@dataclass(frozen=True, slots=True)
class Pairs:
    """Texts to read and to write, a row each."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_name: str = "source"  # of the column that they come from
    target_name: str = "target"

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def target_lengths(self) -> Int64[np.ndarray, " pair"]:
        """Words of each target; characters where most are of one word."""
        words = np.array([len(text.split()) for text in self.targets], dtype=np.int64)
        if words.mean() >= WORDY:
            return words
        return np.array([len(text) for text in self.targets], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class TargetTexts:
    """Texts to write, each distinct one stored once: the labels of pairs."""

    codes: np.ndarray  # int64 [n], index into target_texts
    target_texts: tuple[str, ...]


def target_texts(targets: Sequence[str]) -> TargetTexts:
    """The targets with each distinct text numbered, in the order of their first rows."""
    places: dict[str, int] = {}
    codes = [places.setdefault(text, len(places)) for text in targets]
    return TargetTexts(np.array(codes, dtype=np.int64), tuple(places))


class EncodedPair(NamedTuple):
    """The tokens of a pair, without borders."""

    source: Int32[np.ndarray, " source_token"]
    target: Int32[np.ndarray, " target_token"]


@dataclass(frozen=True, slots=True)
class EncodedPairs(Rows[EncodedPair]):
    """The tokens of all pairs, end to end."""

    sources: Int32[np.ndarray, " source_token"]
    targets: Int32[np.ndarray, " target_token"]
    source_ends: Int64[np.ndarray, " pair"]
    target_ends: Int64[np.ndarray, " pair"]

    def __len__(self) -> int:
        return len(self.source_ends)

    @property
    def source_lengths(self) -> Int64[np.ndarray, " pair"]:
        """Tokens of each source."""
        return np.diff(self.source_ends, prepend=0)

    @property
    def target_lengths(self) -> Int64[np.ndarray, " pair"]:
        """Tokens of each target, without borders."""
        return np.diff(self.target_ends, prepend=0)

    def row(self, place: int) -> EncodedPair:
        return EncodedPair(
            _part(self.sources, self.source_ends, place),
            _part(self.targets, self.target_ends, place),
        )


def _part(tokens: np.ndarray, ends: np.ndarray, place: int) -> np.ndarray:
    begin = int(ends[place - 1]) if place else 0
    return tokens[begin : int(ends[place])]


def join_pairs(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> EncodedPairs:
    """Encoded pairs, of the tokens of each."""

    def flat(parts: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        arrays = list(parts)
        ends = np.cumsum([len(part) for part in arrays], dtype=np.int64)
        joined = np.concatenate(arrays) if arrays else np.zeros(0)
        return joined.astype(np.int32), ends

    sources, source_ends = flat(source for source, _ in pairs)
    targets, target_ends = flat(target for _, target in pairs)
    return EncodedPairs(sources, targets, source_ends, target_ends)
