"""Answers without a look at the image: what is most often answered to the same words."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from thalweg.data.questions.question_words import words_of

KIND_LENGTH = 2  # first words that name the type of a question
LEAST = 3  # questions to call a type by its words
OTHERS = "other questions"


def answers_to_words_alone(
    texts: Sequence[str],
    answers: Int64[np.ndarray, " question"],
    *,
    train: Int64[np.ndarray, " n"],
    val: Int64[np.ndarray, " m"],
) -> Int64[np.ndarray, " m"]:
    """The most frequent training answer to the same question, else to one with the same beginning.

    Else the most frequent answer of all.
    """
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for row in train.tolist():
        for key in _keys(texts[row]):
            counts[key][int(answers[row])] += 1
    usual = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
    rows = val.tolist()
    chosen = [next(usual[key] for key in _keys(texts[row]) if key in usual) for row in rows]
    return np.array(chosen, dtype=np.int64)


def _keys(text: str) -> tuple[str, ...]:
    words = words_of(text)
    return f"= {' '.join(words)}", f"~ {' '.join(words[:KIND_LENGTH])}", ""


def kinds_of(texts: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """The type of each question, as its file names it; else its first words, if frequent."""
    if kinds:
        return list(kinds)
    beginnings = [" ".join(words_of(text)[:KIND_LENGTH]) + " …" for text in texts]
    counts = Counter(beginnings)
    return [text if counts[text] >= LEAST else OTHERS for text in beginnings]
