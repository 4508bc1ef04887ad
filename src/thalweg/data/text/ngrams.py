"""The n-grams of texts, weighted by tf-idf: words, neighbours, and pieces of words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64

from thalweg.data.text.word_rows import WordRows, is_unspaced, pieces_of

MOST_WORDS, MOST_NEIGHBOURS, MOST_PIECES = 50_000, 60_000, 60_000
LEAST_TEXTS = 2  # of the training part that an entry occurs in: one text teaches nothing of others
WORDS_AT_ONCE = 200_000  # of the texts whose n-grams are counted together; a word has some 15
MOST_TOKENS = 256  # of a text, for networks that read its words in order; the first ones


class NgramRows(NamedTuple):
    """The n-grams of texts, a run of entries for each."""

    entries: Int32[np.ndarray, " entry"]  # from 1; 0 is padding
    weights: Float32[np.ndarray, " entry"]
    starts: Int64[np.ndarray, " border"]  # the first entry of each text, and the end of the last


class _Counts(NamedTuple):
    """The number of times that a feature occurs in a text, sorted by text."""

    texts: np.ndarray
    features: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)  # without slots, so that what is derived can be cached
class Ngrams:
    """The vocabulary of the training texts: words, then neighbours, then pieces of words."""

    texts: int  # in the training part
    words: tuple[str, ...]
    neighbours: tuple[tuple[int, ...], ...]  # two words, three of a script without spaces: sorted
    pieces: tuple[str, ...]
    frequencies: tuple[int, ...]  # the training texts with each entry

    def __len__(self) -> int:
        """Entries, with that of padding."""
        return 1 + len(self.frequencies)

    @property
    def tokens(self) -> int:
        """Numbers of words in order: 0 is padding, the last one any other word."""
        return len(self.words) + 2

    def words_in(self, entry: int) -> tuple[int, ...]:
        """The words of an entry that is a word or some neighbours."""
        place = entry - 1
        return (place,) if place < len(self.words) else self.neighbours[place - len(self.words)]

    def name(self, entry: int) -> str:
        """The n-gram of an entry as text; pieces in brackets of their word."""
        place = entry - 1
        if place < len(self.words):
            return self.words[place]
        place -= len(self.words)
        if place < len(self.neighbours):
            parts = [self.words[word] for word in self.neighbours[place]]
            return ("" if all(map(is_unspaced, parts)) else " ").join(parts)
        return f"…{self.pieces[place - len(self.neighbours)]}…".replace("…<", "").replace(">…", "")

    def encode(self, rows: WordRows) -> NgramRows:
        """The entries of each text and their weights.

        (1 + ln count) · (ln((1 + n) / (1 + texts with it)) + 1), each of the two blocks, words with
        neighbours and pieces, of length 1.
        """
        codes = self._codes(rows)
        parts = [self._encode_part(part, codes) for part in _portions(rows)]
        counts = [np.diff(part.starts) for part in parts]
        return NgramRows(
            np.concatenate([part.entries for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64),
        )

    def sequences(self, rows: WordRows) -> list[Int32[np.ndarray, " _"]]:
        """The first words of each text in order; a text without any is one unknown word."""
        unknown = len(self.words) + 1
        codes = self._codes(rows)
        tokens = np.where(codes < 0, unknown, codes + 1).astype(np.int32)[rows.ids]
        pairs = zip(rows.starts[:-1], rows.starts[1:], strict=True)
        empty = np.array([unknown], dtype=np.int32)
        return [
            tokens[begin : min(end, begin + MOST_TOKENS)] if end > begin else empty
            for begin, end in pairs
        ]

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON; neighbours as one list of numbers for each of their lengths."""
        return {
            "texts": self.texts,
            "words": list(self.words),
            "neighbours": [list(run) for run in self.neighbours],
            "pieces": list(self.pieces),
            "frequencies": list(self.frequencies),
        }

    @cached_property
    def _idf(self) -> np.ndarray:
        frequencies = np.array(self.frequencies, dtype=np.float64)
        return np.concatenate([[0.0], np.log((1 + self.texts) / (1 + frequencies)) + 1])

    @cached_property
    def _number_of_word(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def _number_of_piece(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces)}

    @cached_property
    def _keys(self) -> np.ndarray:
        """A number for each run of neighbours, ascending."""
        base = len(self.words) + 1
        return np.array([_key(run, base) for run in self.neighbours], dtype=np.int64)

    def _codes(self, rows: WordRows) -> np.ndarray:
        """The number of each name among the words; −1 for others."""
        return np.array([self._number_of_word.get(name, -1) for name in rows.names], dtype=np.int64)

    def _encode_part(self, rows: WordRows, codes: np.ndarray) -> NgramRows:
        texts = np.repeat(np.arange(len(rows)), rows.lengths)
        words = codes[rows.ids]
        counts = _count(texts[words >= 0], words[words >= 0])
        blocks = [counts._replace(features=counts.features + 1)]
        blocks.append(self._neighbour_counts(texts, words))
        first = _joined(blocks)
        pieces = self._piece_counts(_count(texts, rows.ids), rows.names)
        shift = 1 + len(self.words) + len(self.neighbours)
        second = pieces._replace(features=pieces.features + shift)
        weighted = [self._weights(block, len(rows)) for block in (first, second)]
        whole = _joined([first, second])
        order = np.argsort(whole.texts, kind="stable")
        lengths = np.bincount(whole.texts, minlength=len(rows))
        return NgramRows(
            whole.features[order].astype(np.int32),
            np.concatenate(weighted)[order].astype(np.float32),
            np.cumsum([0, *lengths], dtype=np.int64),
        )

    def _neighbour_counts(self, texts: np.ndarray, words: np.ndarray) -> _Counts:
        base = len(self.words) + 1
        parts = []
        for length in (2, 3):
            places, keys = _runs(texts, words, length=length, base=base)
            numbers = np.searchsorted(self._keys, keys).clip(max=max(0, len(self._keys) - 1))
            is_entry = self._keys[numbers] == keys if len(self._keys) else np.zeros(0, dtype=bool)
            if len(self._keys):
                parts.append(_count(places[is_entry], numbers[is_entry]))
        counts = _joined(parts)
        return counts._replace(features=counts.features + 1 + len(self.words))

    def _piece_counts(self, words: _Counts, names: Sequence[str]) -> _Counts:
        """The pieces in each text, from the words in it."""
        numbers = self._number_of_piece
        used = np.unique(words.features)
        lists = [[numbers[p] for p in pieces_of(names[w]) if p in numbers] for w in used.tolist()]
        return _expand(words, used, lists)

    def _weights(self, counts: _Counts, texts: int) -> np.ndarray:
        weights = (1 + np.log(counts.times)) * self._idf[counts.features]
        squares = np.bincount(counts.texts, weights=weights**2, minlength=texts)
        return weights / np.sqrt(squares[counts.texts]) if len(weights) else weights


def fit_ngrams(rows: WordRows, train: Int64[np.ndarray, " row"]) -> Ngrams:
    """The n-grams of the training texts that are in two of them or more, most frequent first."""
    is_train = np.zeros(len(rows), dtype=bool)
    is_train[train] = True
    of_train = is_train[np.repeat(np.arange(len(rows)), rows.lengths)]
    texts = np.repeat(np.arange(len(rows)), rows.lengths)[of_train]
    ids = rows.ids[of_train]
    counts = _count(texts, ids)
    frequencies = np.bincount(counts.features, minlength=len(rows.names))
    chosen = _most_frequent(frequencies, MOST_WORDS)
    codes = np.full(len(rows.names), -1, dtype=np.int64)
    codes[chosen] = np.arange(len(chosen))
    neighbours, neighbour_frequencies = _fit_neighbours(
        texts, codes[ids], np.array([is_unspaced(rows.names[n]) for n in chosen], dtype=bool)
    )
    pieces, piece_frequencies = _fit_pieces(counts, rows.names)
    return Ngrams(
        texts=len(train),
        words=tuple(rows.names[number] for number in chosen),
        neighbours=neighbours,
        pieces=pieces,
        frequencies=tuple(
            int(n) for n in (*frequencies[chosen], *neighbour_frequencies, *piece_frequencies)
        ),
    )


def restore_ngrams(values: Mapping[str, Any]) -> Ngrams:
    """The inverse of `Ngrams.to_dict`. Raises ValueError where the parts do not fit."""
    ngrams = Ngrams(
        texts=int(values["texts"]),
        words=tuple(map(str, values["words"])),
        neighbours=tuple(tuple(map(int, run)) for run in values["neighbours"]),
        pieces=tuple(map(str, values["pieces"])),
        frequencies=tuple(map(int, values["frequencies"])),
    )
    entries = len(ngrams.words) + len(ngrams.neighbours) + len(ngrams.pieces)
    runs = ngrams.neighbours
    are_words = all(0 <= word < len(ngrams.words) for run in runs for word in run)
    if entries != len(ngrams.frequencies) or not are_words or "" in ngrams.words:
        raise ValueError("no n-grams")
    if ngrams.texts < 0 or any(n < 1 for n in ngrams.frequencies):
        raise ValueError("no frequencies of n-grams")
    return ngrams


def _fit_neighbours(
    texts: np.ndarray, words: np.ndarray, unspaced: np.ndarray
) -> tuple[tuple[tuple[int, ...], ...], list[int]]:
    """Runs of two words, and of three where all are single characters, with their frequencies."""
    base = len(unspaced) + 1
    parts = []
    for length in (2, 3):
        places, keys = _runs(texts, words, length=length, base=base)
        if length == 3:
            digits = _digits(keys, base, 3)
            is_run = unspaced[digits].all(axis=1) if len(keys) else np.zeros(0, dtype=bool)
            places, keys = places[is_run], keys[is_run]
        distinct, numbers = np.unique(keys, return_inverse=True)
        counts = _count(places, numbers.reshape(-1))
        frequencies = np.bincount(counts.features, minlength=len(distinct))
        parts.append((distinct, frequencies))
    keys = np.concatenate([part[0] for part in parts])
    frequencies = np.concatenate([part[1] for part in parts])
    chosen = _most_frequent(frequencies, MOST_NEIGHBOURS)
    chosen = chosen[np.argsort(keys[chosen], kind="stable")]
    runs = _digits(keys[chosen], base, 3).tolist()
    # The first of three is none where there are two.
    return tuple(tuple(w for w in run if w >= 0) for run in runs), frequencies[chosen].tolist()


def _fit_pieces(words: _Counts, names: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Pieces of the words in training texts, with their frequencies."""
    numbers: dict[str, int] = {}
    used = np.unique(words.features)
    lists = [
        [numbers.setdefault(piece, len(numbers)) for piece in pieces_of(names[word])]
        for word in used.tolist()
    ]
    frequencies = np.zeros(len(numbers), dtype=np.int64)
    for begin, end in _borders(words.texts):
        part = _Counts(*(column[begin:end] for column in words))
        features = _expand(part, used, lists).features
        frequencies += np.bincount(features, minlength=len(numbers))
    chosen = _most_frequent(frequencies, MOST_PIECES)
    texts = list(numbers)
    return tuple(texts[number] for number in chosen), frequencies[chosen].tolist()


def _borders(texts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of a sorted array of texts, none of which divides a text."""
    borders = [0]
    while borders[-1] < len(texts):
        end = min(len(texts), borders[-1] + WORDS_AT_ONCE)
        last = texts[end - 1]
        borders.append(int(np.searchsorted(texts, last, side="right")))
    return list(pairwise(borders))


def _portions(rows: WordRows) -> list[WordRows]:
    """The texts in portions of some 200,000 words, at least one."""
    borders = [0]
    while borders[-1] < len(rows):
        end = np.searchsorted(rows.starts, rows.starts[borders[-1]] + WORDS_AT_ONCE)
        borders.append(int(min(len(rows), max(end, borders[-1] + 1))))
    parts = [rows.part(*pair) for pair in pairwise(borders)]
    return parts or [rows]


def _most_frequent(frequencies: np.ndarray, most: int) -> np.ndarray:
    """The features in two texts or more, most frequent first; of equal ones the first met."""
    order = np.argsort(-frequencies, kind="stable")[:most]
    return order[frequencies[order] >= LEAST_TEXTS]


def _count(texts: np.ndarray, features: np.ndarray) -> _Counts:
    """The times that each feature occurs in each text."""
    base = int(features.max()) + 1 if len(features) else 1
    keys, times = np.unique(texts * base + features, return_counts=True)
    return _Counts(keys // base, keys % base, times)


def _joined(parts: Sequence[_Counts]) -> _Counts:
    columns = zip(*parts, strict=True) if parts else ((np.zeros(0, dtype=np.int64),),) * 3
    return _Counts(*(np.concatenate(column) for column in columns))


def _runs(
    texts: np.ndarray, words: np.ndarray, *, length: int, base: int
) -> tuple[np.ndarray, np.ndarray]:
    """The text and the key of each run of `length` words of the vocabulary within one text."""
    count = max(0, len(words) - length + 1)
    is_run = texts[:count] == texts[length - 1 : length - 1 + count]
    keys = np.zeros(count, dtype=np.int64)
    for place in range(length):
        own = words[place : place + count]
        is_run = is_run & (own >= 0)
        keys = keys * base + own + 1
    return texts[:count][is_run], keys[is_run]


def _key(run: Sequence[int], base: int) -> int:
    key = 0
    for word in run:
        key = key * base + word + 1
    return key


def _digits(keys: np.ndarray, base: int, length: int) -> np.ndarray:
    """The words of runs, int64 [run, length]."""
    columns = []
    for _ in range(length):
        keys, digit = np.divmod(keys, base)
        columns.append(digit - 1)
    return np.stack(columns[::-1], axis=1)


def _expand(words: _Counts, used: np.ndarray, lists: Sequence[Sequence[int]]) -> _Counts:
    """Counts of words → counts of the pieces that each word has, in texts in ascending order."""
    lengths = np.array([len(pieces) for pieces in lists], dtype=np.int64)
    flat = np.fromiter((p for pieces in lists for p in pieces), np.int64, count=int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    place = np.searchsorted(used, words.features)
    each = lengths[place]
    owner = np.repeat(np.arange(len(place)), each)
    inner = np.arange(len(owner)) - np.repeat(np.cumsum(each) - each, each)
    features = flat[starts[place][owner] + inner]
    base = int(features.max()) + 1 if len(features) else 1
    keys = words.texts[owner] * base + features
    order = np.argsort(keys, kind="stable")
    keys, times = keys[order], words.times[owner][order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else order
    summed = np.add.reduceat(times, first) if len(keys) else times
    return _Counts(keys[first] // base, keys[first] % base, summed)
