"""Near copies of texts: found by runs of words that they share."""

import numpy as np

from thalweg.data.near_copies import CopyPairs
from thalweg.data.text.word_rows import WordRows

RUN = 3  # words of a shingle
LEAST_WORDS = 6  # of a text; shorter ones are alike by chance
LEAST_SHARED = 0.7  # of the distinct shingles of both texts (Jaccard): the same text, retouched
BANDS, ROWS = 8, 3  # of minima: 97 in 100 pairs with 0.7 meet, 2 in 100 with 0.2
MOST_WORDS = 1_000  # of a text, its first ones
_BASE = np.uint64(0x9E3779B97F4A7C15)


def near_texts(rows: WordRows) -> CopyPairs:
    """Pairs of texts that share 70 % of their runs of three words.

    Candidates have equal minima of random orders of their runs: Broder 1997,
    https://doi.org/10.1109/SEQUEN.1997.666900; their share is then counted.
    """
    shingles, owners = _shingles(rows)
    none = np.zeros((0, 2), dtype=np.int64)
    if not len(owners):
        return CopyPairs(none, none)
    texts, first = np.unique(owners, return_index=True)
    runs = np.split(shingles, first[1:])
    chance = np.random.default_rng(0)
    pairs = set[tuple[int, int]]()
    for _ in range(BANDS):
        key = np.zeros(len(texts), dtype=np.uint64)
        for factor in chance.integers(1, 2**63, size=ROWS, dtype=np.uint64) * 2 + 1:
            mixed = shingles * factor
            mixed ^= mixed >> np.uint64(32)
            key = key * _BASE + np.minimum.reduceat(mixed * _BASE, first)
        pairs |= _equal(key)
    copies = [
        (int(texts[one]), int(texts[other]))
        for one, other in sorted(pairs)
        if _shared(runs[one], runs[other]) >= LEAST_SHARED
    ]
    return CopyPairs(np.array(copies, dtype=np.int64).reshape(-1, 2), none)


def _shingles(rows: WordRows) -> tuple[np.ndarray, np.ndarray]:
    """The distinct runs of three words of each text as uint64, and the text of each."""
    lengths = rows.lengths
    owners = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(rows.ids)) - np.repeat(rows.starts[:-1], lengths)
    words = np.array([hash_of(name) for name in rows.names] or [0], dtype=np.uint64)[rows.ids]
    count = max(0, len(words) - RUN + 1)
    keys = np.zeros(count, dtype=np.uint64)
    for step in range(RUN):
        keys = (keys + words[step : step + count]) * _BASE
        keys ^= keys >> np.uint64(29)
    is_run = (owners[:count] == owners[RUN - 1 : RUN - 1 + count]) & (place[:count] < MOST_WORDS)
    is_run &= lengths[owners[:count]] >= LEAST_WORDS
    keys, owners = keys[is_run], owners[:count][is_run]
    order = np.lexsort((keys, owners))
    keys, owners = keys[order], owners[order]
    is_new = np.ones(len(keys), dtype=bool)
    is_new[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
    return keys[is_new], owners[is_new]


def hash_of(word: str) -> int:
    """A number of 64 bits that follows from the word alone, in every process."""
    number = 14695981039346656037  # FNV-1a
    for byte in word.encode(errors="surrogatepass"):
        number = ((number ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return number


def _equal(key: np.ndarray) -> set[tuple[int, int]]:
    """Neighbours in the order of equal keys; a chain of pairs links all of them."""
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    return {(int(order[place]), int(order[place + 1])) for place in same}


def _shared(first: np.ndarray, second: np.ndarray) -> float:
    """The share of the distinct runs of two texts that both have."""
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / (len(first) + len(second) - both)
