"""Words between white space as tokens, for texts whose words all recur, such as commands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int32

from thalweg.errors import DataError, printable
from thalweg.wording import some


@dataclass(frozen=True)  # without slots, so that what is derived can be cached
class Words:
    """Each word is a token; they are in the order of their code points."""

    entries: tuple[str, ...]

    noun = "word"

    def __len__(self) -> int:
        return len(self.entries)

    def encode(self, text: str) -> Int32[np.ndarray, " token"]:
        """The number of each word. Raises DataError that names those that are unknown."""
        words = text.split()
        unknown = [printable(word) for word in dict.fromkeys(words) if word not in self._places]
        if unknown:
            raise DataError(
                f"the model knows no {some([repr(word) for word in unknown], 8)}: not in the data "
                "that it was trained on",
                seen=f"{printable(text)[:80]!r}",
                fix="use the words that it knows, or train on data that have these",
            )
        return np.array([self._places[word] for word in words], dtype=np.int32)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return " ".join(self.entries[token] for token in tokens)

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """Each word with a blank before it."""
        return tuple(f" {word}".encode() for word in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {"tokens": "words", "entries": list(self.entries)}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.entries)}


def fit_words(texts: Iterable[str]) -> Words:
    """The words of texts."""
    return Words(tuple(sorted({word for text in texts for word in text.split()})))


def restore_words(entries: object) -> Words:
    """The inverse of `Words.to_dict`. Raises ValueError where it is damaged."""
    words = tuple(map(str, entries)) if isinstance(entries, list) else ()
    if not words or list(words) != sorted(set(words)) or any(len(w.split()) != 1 for w in words):
        raise ValueError("no vocabulary of words")
    return Words(words)
