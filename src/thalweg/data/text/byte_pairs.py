"""Byte-pair encoding: pieces of words, learned from a text by the package `tokenizers`.

The pieces are made of bytes, so that no text has an unknown one. Source: Sennrich et al. 2016,
arXiv:1508.07909; of bytes: Radford et al. 2019 (GPT-2), section 2.2.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int32

from thalweg.errors import DataError

CHUNK = 1 << 20  # characters encoded at a time


@dataclass(frozen=True)  # without slots, so that what is derived can be cached
class BytePairs:
    """Pieces of words; `tokenizer` is the tokenizer in the JSON of the package."""

    tokenizer: str

    noun = "token"

    def __len__(self) -> int:
        return len(self.token_bytes)

    def encode(self, text: str) -> Int32[np.ndarray, " token"]:
        """The numbers of the pieces. Raises DataError where the package is absent."""
        batches = self._loaded.encode_batch_fast(list(_chunks(text)))
        numbers = chain.from_iterable(one.ids for one in batches)
        return np.fromiter(numbers, dtype=np.int32)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that end within a character become U+FFFD."""
        return b"".join(self.token_bytes[token] for token in tokens).decode(errors="replace")

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        places: dict[str, int] = json.loads(self.tokenizer)["model"]["vocab"]
        pieces = sorted(places, key=lambda piece: places[piece])
        table = {letter: byte for byte, letter in _letters().items()}
        return tuple(bytes(table[letter] for letter in piece) for piece in pieces)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {"tokens": "bpe", "tokenizer": self.tokenizer}

    @cached_property
    def _loaded(self) -> Any:
        return _package().Tokenizer.from_str(self.tokenizer)


def fit_byte_pairs(text: str, *, size: int) -> BytePairs:
    """Learn `size` pieces from a text. Raises DataError where the package is absent."""
    package = _package(" or --data.tokenizer characters")
    tokenizer = package.Tokenizer(package.models.BPE())
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = package.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=package.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_chunks(text), trainer)
    return BytePairs(tokenizer.to_str())


def _package(way_around: str = "") -> Any:
    try:
        import tokenizers
        from tokenizers import models, pre_tokenizers, trainers  # noqa: F401
    except ImportError as error:
        raise DataError(
            "pieces of words need the package tokenizers, which is not installed",
            seen=str(error),
            fix=f"pip install 'thalweg[text]'{way_around}",
        ) from error
    return tokenizers


def _chunks(text: str) -> Iterator[str]:
    """The text in parts of whole lines, where lines are not longer than a part."""
    start = 0
    while start < len(text):
        end = min(start + CHUNK, len(text))
        line_end = text.rfind("\n", start, end)
        if end < len(text) and line_end > start:
            end = line_end + 1
        yield text[start:end]
        start = end


def _letters() -> dict[int, str]:
    """The letter that stands for each byte in the package's vocabulary, as in GPT-2's encoder."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }
