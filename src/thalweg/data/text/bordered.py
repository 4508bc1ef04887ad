"""A vocabulary with a border token, which begins and ends every sequence that is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int32

from thalweg.data.text.vocabulary import Vocabulary, restore_vocabulary

BORDER = 0  # the token before the first one and behind the last


@dataclass(frozen=True)  # without slots, so that what is derived can be cached
class Bordered:
    """The tokens of `inner`, moved up by one; the border has no text."""

    inner: Vocabulary

    @property
    def noun(self) -> str:
        """The noun for one token."""
        return self.inner.noun

    def __len__(self) -> int:
        return len(self.inner) + 1

    def encode(self, text: str) -> Int32[np.ndarray, " token"]:
        """The numbers of the text's tokens, without borders. Raises DataError for unknown ones."""
        return self.inner.encode(text) + np.int32(1)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens before the first border."""
        written = list(tokens)
        end = written.index(BORDER) if BORDER in written else len(written)
        return self.inner.decode([token - 1 for token in written[:end]])

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes of each token, in UTF-8; the border has none."""
        return (b"", *self.inner.token_bytes)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return self.inner.to_dict()


def restore_bordered(values: Mapping[str, Any]) -> Bordered:
    """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError where it is damaged."""
    return Bordered(restore_vocabulary(values))
