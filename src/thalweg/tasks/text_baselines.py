"""The loss of simple models of a text, to stand beside a network's: counts, and gzip."""

import gzip
from collections.abc import Mapping, Sequence
from math import log

import numpy as np
from jaxtyping import Float, Int, Int64

MOST_COUNTED = 5_000_000  # training tokens, the last ones; more would take longer than they tell
MOST_COMPRESSED = 8_000_000  # validation tokens


def text_baselines(
    train: Int[np.ndarray, " n"], val: Int[np.ndarray, " m"], *, token_bytes: Sequence[bytes]
) -> Mapping[str, float]:
    """The validation loss in nat a token of unigrams, trigrams and gzip, by name.

    gzip knows nothing of the training text: it compresses the validation text alone.
    """
    train, size = train[-MOST_COUNTED:].astype(np.int64), len(token_bytes)
    val = val[:MOST_COMPRESSED].astype(np.int64)
    text = b"".join(token_bytes[token] for token in val.tolist())
    packed = gzip.compress(text, compresslevel=9, mtime=0)
    return {
        "unigram": _mean_loss(ngram_probabilities(train, val, size=size, order=1)),
        "trigram": _mean_loss(ngram_probabilities(train, val, size=size, order=3)),
        "gzip": 8 * len(packed) * log(2) / len(val),
    }


def ngram_probabilities(
    train: Int64[np.ndarray, " n"], val: Int64[np.ndarray, " m"], *, size: int, order: int
) -> Float[np.ndarray, " m"]:
    """The probability of each token of `val` after the order − 1 tokens before it.

    P(w | h) = (count of hw + kinds after h · P(w | shorter h)) / (count of h + kinds after h), down
    to the uniform distribution over `size` tokens. Source: Witten & Bell 1991 (IEEE Trans. Inf.
    Theory 37), method C, interpolated.
    """
    probability = np.full(len(val), 1 / size)
    for length in range(order):  # tokens of the history
        history, seen = _histories(train, length, size), _histories(val, length, size)
        grams, counts = np.unique(history * size + train[length:], return_counts=True)
        contexts, first, kinds = np.unique(grams // size, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first)
        occurrences = _looked_up(seen * size + val[length:], grams, counts)
        kind = _looked_up(seen, contexts, kinds)
        total = _looked_up(seen, contexts, totals)
        shorter = probability[length:]
        mixed = (occurrences + kind * shorter) / np.maximum(total + kind, 1)
        probability[length:] = np.where(total > 0, mixed, shorter)
    return probability


def _histories(tokens: Int64[np.ndarray, " n"], length: int, size: int) -> Int64[np.ndarray, " k"]:
    """The `length` tokens before each token as one number, for tokens that have so many."""
    count = len(tokens) - length
    number = np.zeros(count, dtype=np.int64)
    for place in range(length):
        number = number * size + tokens[place : place + count]
    return number


def _looked_up(
    keys: Int64[np.ndarray, " n"], entries: Int64[np.ndarray, " k"], values: Int64[np.ndarray, " k"]
) -> Int64[np.ndarray, " n"]:
    """The value of each key in the sorted `entries`; 0 for another key."""
    places = np.searchsorted(entries, keys).clip(max=len(entries) - 1)
    return np.where(entries[places] == keys, values[places], 0)


def _mean_loss(probability: Float[np.ndarray, " m"]) -> float:
    return float(-np.log(probability).mean())
