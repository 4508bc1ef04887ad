import gzip
from collections import Counter, defaultdict
from math import log

import numpy as np
import pytest

from thalweg.tasks.text_baselines import ngram_probabilities, text_baselines

SIZE = 6


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    text = rng.choice(SIZE - 1, 900, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    text[2::3] = text[::3]  # so that what stands two before tells something
    return text[:700].astype(np.int64), np.append(text[700:], SIZE - 1).astype(np.int64)


def witten_bell(train, history, token):
    """The definition, by counting; independent of the arrays."""
    if history is None:
        return 1 / SIZE
    length = len(history)
    after = Counter(
        train[i + length] for i in range(len(train) - length) if train[i : i + length] == history
    )
    shorter = history[1:] if history else None
    lower = witten_bell(train, shorter, token)
    if not after:
        return lower
    kinds = len(after)
    return (after[token] + kinds * lower) / (after.total() + kinds)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_probability_is_that_of_the_definition(parts, order):
    train, val = parts
    found = ngram_probabilities(train, val, size=SIZE, order=order)
    counted, tokens = train.tolist(), val.tolist()
    expected = [
        witten_bell(counted, tokens[max(0, i - order + 1) : i], token)
        for i, token in enumerate(tokens)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_probabilities_of_all_tokens_add_up_to_one(parts):
    train, _ = parts
    totals: dict[int, float] = defaultdict(float)
    for token in range(SIZE):
        val = np.array([1, 0, token])
        totals[0] += ngram_probabilities(train, val, size=SIZE, order=3)[2]
    assert totals[0] == pytest.approx(1)


def test_gzip_is_that_of_the_validation_text(parts):
    train, val = parts
    token_bytes = [b"a", b"b", b"c", b"d", b"e", b" the"]
    text = b"".join(token_bytes[token] for token in val.tolist())
    bits = 8 * len(gzip.compress(text, 9, mtime=0))
    found = text_baselines(train, val, token_bytes=token_bytes)
    assert found["gzip"] == pytest.approx(bits * log(2) / len(val))
    assert found["trigram"] < found["unigram"] < log(SIZE) + 0.1
