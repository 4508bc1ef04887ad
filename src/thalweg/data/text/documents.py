"""Texts as samples, one or several columns of them, perhaps beside the numbers of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from thalweg.data.images.cache_index import DIGEST_BYTES
from thalweg.data.rows import Rows
from thalweg.data.text.ngrams import NgramRows
from thalweg.errors import printable

EXCERPT = 60  # characters of a text in a sample's name


@dataclass(frozen=True, slots=True)
class Documents:
    """A text a sample, and the numbers beside it."""

    texts: Sequence[str]
    numbers: Float32[np.ndarray, "row number"]  # [n, 0] where there are none
    columns: tuple[str, ...] = ()  # of a table, whose texts these are; () for files

    def __len__(self) -> int:
        return len(self.texts)


class Document(NamedTuple):
    """A text as numbers."""

    ngrams: Int32[np.ndarray, " entry"]
    weights: Float32[np.ndarray, " entry"]
    tokens: Int32[np.ndarray, " token"]  # its first words in order
    numbers: Float32[np.ndarray, " number"]


@dataclass(frozen=True, slots=True)
class DocumentRows(Rows[Document]):
    """Texts as numbers, one row each."""

    ngrams: NgramRows
    tokens: Sequence[Int32[np.ndarray, " _"]]
    numbers: Float32[np.ndarray, "row number"]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.tokens)

    def row(self, place: int) -> Document:
        run = slice(*self.ngrams.starts[place : place + 2])
        return Document(
            self.ngrams.entries[run],
            self.ngrams.weights[run],
            self.tokens[place],
            self.numbers[place],
        )


@dataclass(frozen=True, slots=True)
class DocumentNames(Rows[str]):
    """Names of samples with the beginnings of their texts: row 17 "I loved it and …"."""

    names: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def row(self, place: int) -> str:
        return f"{self.names[place]} “{excerpt(self.texts[place])}”"


def excerpt(text: str, most: int = EXCERPT) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text[: 4 * most].split())
    return printable(line if len(line) <= most else f"{line[: most - 1].rstrip()}…")


def plain_text(text: str) -> str:
    """The text in lower case with single spaces: equal for copies that differ in these alone."""
    return " ".join(text.lower().split())


def document_digests(documents: Documents) -> np.ndarray:
    """uint8 [n, 16]: a digest of each text, without its case and spaces, and its numbers."""
    pairs = zip(documents.texts, documents.numbers, strict=True)
    joined = b"".join(
        blake2b(
            plain_text(text).encode(errors="surrogatepass") + numbers.tobytes(),
            digest_size=DIGEST_BYTES,
        ).digest()
        for text, numbers in pairs
    )
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
