"""Texts → words: of any script, of HTML without its tags, marks and emoji on their own."""

import html
import re
from collections.abc import Iterable
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
from jaxtyping import Int64

MOST_CHARACTERS = 200_000  # of one text; what follows is not read
LONGEST_WORD = 40  # characters of a word that is cut into pieces; longer ones are no language
SHORTEST_PIECE, LONGEST_PIECE = 3, 5  # characters, as in fastText's vectors
# Scripts that write without spaces: Thai, Lao, Burmese, Khmer, kana, Han. Each character is a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_LETTER = rf"(?![{UNSPACED}])[^\W_]"
_WORD = re.compile(rf"[{UNSPACED}]|(?:{_LETTER})+(?:['’](?:{_LETTER})+)*|[^\w\s]|_+")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_TAG = re.compile(r"<(?:/?[a-zA-Z]|!--)[^<>]{0,400}>")


class WordRows(NamedTuple):
    """The words of texts, each distinct one stored once."""

    names: tuple[str, ...]
    ids: Int64[np.ndarray, " word"]  # of all texts, one after the other: index into names
    starts: Int64[np.ndarray, " border"]  # the first word of each text, and the end of the last

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int64[np.ndarray, " text"]:
        """Words in each text."""
        return np.diff(self.starts)

    def part(self, begin: int, end: int) -> "WordRows":
        """The texts from number `begin` to before `end`, with the same names."""
        first, last = self.starts[begin], self.starts[end]
        return WordRows(self.names, self.ids[first:last], self.starts[begin : end + 1] - first)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; each mark, emoji and character of Chinese is a word."""
    text = text[:MOST_CHARACTERS]
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    return _WORD.findall(normalize("NFKC", text).lower())


def read_words(texts: Iterable[str]) -> WordRows:
    """The words of each text."""
    numbers: dict[str, int] = {}
    rows = [[numbers.setdefault(word, len(numbers)) for word in words_of(text)] for text in texts]
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    ids = np.fromiter((number for row in rows for number in row), np.int64, count=int(starts[-1]))
    return WordRows(tuple(numbers), ids, starts)


def is_unspaced(word: str) -> bool:
    """Return whether the word is one character of a script without spaces."""
    return len(word) == 1 and _UNSPACED.match(word) is not None


def pieces_of(word: str) -> list[str]:
    """The runs of 3 to 5 characters of a word between brackets: "<ca", "cat", …; of marks none.

    They tell forms, misspellings and rare words by their parts: Bojanowski et al. 2017,
    arXiv:1607.04606.
    """
    if not word[0].isalnum() or len(word) > LONGEST_WORD or is_unspaced(word):
        return []
    text = f"<{word}>"
    spans = (
        text[start : start + length]
        for length in range(SHORTEST_PIECE, LONGEST_PIECE + 1)
        for start in range(len(text) - length + 1)
    )
    return list(dict.fromkeys(spans))
