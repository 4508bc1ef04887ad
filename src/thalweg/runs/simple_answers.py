"""Simple answers beside what a network writes: the most frequent, a copy, the nearest's."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from jaxtyping import Float32

from thalweg.planning.plan import Plan

BUCKETS = 1_024  # to which runs of one and two tokens are hashed
MOST_TRAIN = 20_000  # training pairs that are compared with, evenly spaced


def simple_answers(plan: Plan, rows: np.ndarray) -> dict[str, list[str]]:
    """The texts that know-nothing rules write for these rows of the data set, by their name.

    The nearest training source is that of the highest cosine between counts of its tokens and of
    its pairs of tokens, hashed.
    """
    dataset = plan.dataset
    train = dataset.indices["train"]
    train = train[np.linspace(0, len(train) - 1, min(len(train), MOST_TRAIN)).astype(np.int64)]
    targets = [plan.spec.text_of(dataset.inputs[row].target.tolist()) for row in train.tolist()]
    (most_frequent, _), *_ = Counter(targets).most_common(1)
    answers = {"the most frequent output": [most_frequent] * len(rows)}
    text_of_row = dataset.modality.text_of_row
    copies = [text_of_row(dataset.preprocessing, dataset.inputs[row]) for row in rows.tolist()]
    if any(copies):
        answers["a copy of the input"] = copies
    own, others = (_vectors([dataset.inputs[row].source for row in part]) for part in (rows, train))
    nearest = [int(np.argmax(others @ vector)) for vector in own]
    answers["the output of the nearest training input"] = [targets[place] for place in nearest]
    return answers


def _vectors(sources: Sequence[np.ndarray]) -> Float32[np.ndarray, "n bucket"]:
    """Hashed counts of tokens and of pairs of tokens, each row of length 1."""
    vectors = np.zeros((len(sources), BUCKETS), dtype=np.float32)
    for row, tokens in enumerate(sources):
        listed = tokens.tolist()
        runs = [*((token,) for token in listed), *pairwise(listed)]
        for run, number in Counter(runs).items():
            vectors[row, crc32(repr(run).encode()) % BUCKETS] += number
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-9)
