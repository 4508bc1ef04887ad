"""A vocabulary: the tokens that a text is made of, characters or pieces of words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from thalweg.data.text.byte_pairs import BytePairs
from thalweg.data.text.words import restore_words
from thalweg.errors import DataError, printable
from thalweg.wording import some

MOST_CHARACTERS = 65_536  # different ones; no script has more


@runtime_checkable
class Vocabulary(Protocol):
    """Tokens by number, and both directions between them and text."""

    @property
    def noun(self) -> str: ...  # for one token
    @property
    def token_bytes(self) -> tuple[bytes, ...]: ...  # of each token, in UTF-8
    def __len__(self) -> int: ...
    def encode(self, text: str) -> Int32[np.ndarray, " token"]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)  # without slots, so that what is derived can be cached
class Characters:
    """Each character is a token; they are in the order of their code points."""

    entries: str

    noun = "character"

    def __len__(self) -> int:
        return len(self.entries)

    def encode(self, text: str) -> Int32[np.ndarray, " token"]:
        """The number of each character. Raises DataError that names those that are unknown."""
        points = _code_points(text)
        numbers = np.searchsorted(self._points, points).clip(max=len(self.entries) - 1)
        unknown = self._points[numbers] != points
        if unknown.any():
            names = [_name(chr(point)) for point in np.unique(points[unknown])]
            raise DataError(
                f"the model knows no {some(names, 8)}: not in the text that it was trained on",
                seen=f"{int(unknown.sum()):,} of {len(text):,} characters",
                fix="leave them out, or train on a text that has them",
            )
        return numbers.astype(np.int32)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return "".join(self.entries[token] for token in tokens)

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        return tuple(character.encode() for character in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {"tokens": "characters", "entries": self.entries}

    @cached_property
    def _points(self) -> np.ndarray:
        return _code_points(self.entries)


def fit_characters(text: str) -> Characters:
    """The characters of a text. Raises DataError where they are too many."""
    points = np.unique(_code_points(text))
    if len(points) > MOST_CHARACTERS:
        raise DataError(
            "the text has too many different characters",
            seen=f"{len(points):,}",
            fix="--data.tokenizer bpe",
        )
    return Characters("".join(map(chr, points)))


def restore_vocabulary(values: Mapping[str, Any]) -> Vocabulary:
    """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError where it is damaged."""
    if values["tokens"] == "bpe":
        return BytePairs(str(values["tokenizer"]))
    if values["tokens"] == "words":
        return restore_words(values["entries"])
    entries = str(values["entries"])
    if values["tokens"] != "characters" or not entries or list(entries) != sorted(set(entries)):
        raise ValueError("no vocabulary")
    return Characters(entries)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _name(character: str) -> str:
    """The character in quotes, with its number where it cannot be seen."""
    shown = printable(character)
    return f"{shown!r}" if shown == character else f"U+{ord(character):04X}"
