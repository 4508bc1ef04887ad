"""The share of a validation text that stands in the training text."""

import numpy as np
from jaxtyping import Int32

LENGTH = 50  # tokens; as in the checks of GPT-3's test sets, whose runs were of 13 words
MOST = 5_000_000  # tokens of each, those next to the border
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a multiplication loses nothing


def repeated_share(train: Int32[np.ndarray, " n"], val: Int32[np.ndarray, " m"]) -> float:
    """The share of the runs of 50 tokens in `val` that are in `train` as well; 0 for a short text.

    Source: Brown et al. 2020, arXiv:2005.14165, appendix C.
    """
    train, val = train[-MOST:], val[:MOST]
    if min(len(train), len(val)) < LENGTH:
        return 0.0
    return float(np.isin(_digests(val), _digests(train)).mean())


def _digests(tokens: Int32[np.ndarray, " n"]) -> np.ndarray:
    """A 64-bit polynomial of each run of tokens, uint64."""
    numbers = tokens.astype(np.uint64) + np.uint64(1)
    count = len(tokens) - LENGTH + 1
    digests = np.zeros(count, dtype=np.uint64)
    for place in range(LENGTH):
        digests *= _BASE
        digests += numbers[place : place + count]
        digests ^= digests >> np.uint64(29)
    return digests
