"""Windows of a long text: each is a sample of `context` tokens and the one after them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int32, Int64

from thalweg.data.rows import Rows
from thalweg.data.samples import SPLITS
from thalweg.data.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Windows(Rows[np.ndarray]):
    """The windows of a text, split by split; none crosses the border between two splits.

    In a split each begins where the one before it ends. The tokens at its end that fill no window
    are in none.
    """

    tokens: Int32[np.ndarray, " token"]  # of the whole text
    borders: tuple[tuple[int, int], ...]  # the first token of each split, and the one after it
    context: int
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows in each split."""
        return tuple(max(0, end - begin - 1) // self.context for begin, end in self.borders)

    @property
    def splits(self) -> Int8[np.ndarray, " window"]:
        """The split of each window, as an index into SPLITS."""
        return np.repeat(np.arange(len(SPLITS), dtype=np.int8), self.counts)

    @property
    def starts(self) -> Int64[np.ndarray, " window"]:
        """The first token of each window."""
        pairs = zip(self.borders, self.counts, strict=True)
        parts = [begin + self.context * np.arange(count) for (begin, _), count in pairs]
        return np.concatenate(parts).astype(np.int64)

    @property
    def targets(self) -> Int64[np.ndarray, "window token"]:
        """The token after each token of each window."""
        return self.at(self.starts)[:, 1:]

    def at(self, starts: Int64[np.ndarray, " window"]) -> Int64[np.ndarray, "window longer"]:
        """Windows that begin at these tokens, each with the token after it."""
        places = starts[:, None] + np.arange(self.context + 1)
        return self.tokens[places].astype(np.int64)

    def row(self, place: int) -> np.ndarray:
        return self.at(np.array([self.start(place)]))[0]

    def start(self, row: int) -> int:
        """The first token of a window."""
        place = row if row >= 0 else row + len(self)
        for (begin, _), count in zip(self.borders, self.counts, strict=True):
            if 0 <= place < count:
                return begin + place * self.context
            place -= count
        raise IndexError(row)


@dataclass(frozen=True, slots=True)
class WindowNames(Rows[str]):
    """ "characters 1 to 256" for each window, built when read."""

    windows: Windows

    def __len__(self) -> int:
        return len(self.windows)

    def row(self, place: int) -> str:
        start = self.windows.start(place)
        noun = self.windows.vocabulary.noun
        return f"{noun}s {start + 1:,} to {start + self.windows.context:,}"


def shifted_starts(
    windows: Windows, positions: Int64[np.ndarray, " window"], offset: int
) -> Int64[np.ndarray, " window"]:
    """The beginnings of training windows, moved on by `offset` tokens within their split."""
    begin, end = windows.borders[0]
    last = end - 1 - windows.context
    return np.minimum(begin + positions * windows.context + offset, last)
