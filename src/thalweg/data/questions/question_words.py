"""The words of questions: what a question is read as."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

PADDING, UNKNOWN = 0, 1
FIRST = 2  # the number of the first word
MOST_WORDS = 20_000
MOST_READ = 64  # words of a question; what follows is not read
_WORD = re.compile(r"\w+(?:'\w+)?")


def words_of(text: str) -> list[str]:
    """The words of a question in lower case, without punctuation; signs where there is no word."""
    lower = text.casefold()
    return (_WORD.findall(lower) or lower.split())[:MOST_READ]


@dataclass(frozen=True)  # without slots, so that what is derived can be cached
class QuestionWords:
    """Each word of the training questions is a token; others are the unknown word."""

    entries: tuple[str, ...]

    def __len__(self) -> int:
        return FIRST + len(self.entries)

    def encode(self, text: str) -> Int64[np.ndarray, " word"]:
        """The number of each word; of an empty question, one unknown word."""
        numbers = [self._numbers.get(word, UNKNOWN) for word in words_of(text)]
        return np.array(numbers or [UNKNOWN], dtype=np.int64)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: FIRST + place for place, word in enumerate(self.entries)}


def fit_question_words(texts: Iterable[str]) -> QuestionWords:
    """The words of questions, the most frequent ones where there are too many."""
    counts = Counter(word for text in texts for word in words_of(text))
    return QuestionWords(tuple(sorted(word for word, _ in counts.most_common(MOST_WORDS))))


def restore_question_words(entries: object) -> QuestionWords:
    """The inverse of `QuestionWords.entries` as a list. Raises ValueError where it is damaged."""
    words = tuple(map(str, entries)) if isinstance(entries, list) else ()
    if len(words) > MOST_WORDS or list(words) != sorted(set(words)):
        raise ValueError("no words of questions")
    return QuestionWords(words)
