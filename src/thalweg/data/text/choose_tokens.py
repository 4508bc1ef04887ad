"""Choose the tokens of one side of pairs: words that all recur, characters, or pieces of words."""

import re
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec

from thalweg.data.text.byte_pairs import fit_byte_pairs
from thalweg.data.text.divide_text import TextOptions
from thalweg.data.text.vocabulary import Vocabulary, fit_characters
from thalweg.data.text.words import fit_words

LEAST_WORDS = 1.5  # a row, in the mean, from which on words may be tokens
RECURRENCE = 10  # occurrences of a word, in the mean, from which on a vocabulary is closed
MOST_RARE = 0.002  # share of the occurrences whose word occurs once
MOST_NUMBERS = 0.01  # share of words of several digits: numbers are read digit by digit
NATURAL_WORDS, NATURAL_ROWS = 3.0, 2_000  # from which on pieces of words are worth learning
PIECE_SHARE, LEAST_PIECES, MOST_PIECES = 1 / 40, 300, 8_192  # of the words
_NUMBER = re.compile(r"\d\d")


def choose_tokens(
    texts: Sequence[str], train: Sequence[str], options: TextOptions
) -> tuple[Vocabulary, str]:
    """The vocabulary of texts, and a note where a package would give a better one.

    Words and characters are those of all texts; pieces of words are learned from `train` alone.
    """
    kind = options.tokenizer
    if kind == "auto" and options.pieces:
        kind = "bpe"
    note = ""
    if kind == "auto" and are_closed(train):
        return fit_words(texts), note
    if kind == "auto" and is_natural(train):
        if find_spec("tokenizers") is not None:
            kind = "bpe"
        else:
            note = "pieces of words would do better, in less time: pip install 'thalweg[text]'"
    if kind == "words":
        return fit_words(texts), note
    if kind == "bpe":
        return fit_byte_pairs("\n".join(train), size=options.pieces or _pieces(train)), note
    return fit_characters("".join(texts)), note


def are_closed(texts: Sequence[str]) -> bool:
    """Return whether the words between white space are a small, closed vocabulary.

    Each recurs many times, hardly any stands alone, and none is a number of several digits.
    """
    counts = Counter(word for text in texts for word in text.split())
    total = sum(counts.values())
    if total < LEAST_WORDS * len(texts) or total < RECURRENCE * len(counts):
        return False
    alone = sum(count == 1 for count in counts.values())
    numbers = sum(count for word, count in counts.items() if _NUMBER.search(word))
    return alone <= MOST_RARE * total and numbers <= MOST_NUMBERS * total


def is_natural(texts: Sequence[str]) -> bool:
    """Return whether there are enough sentences to learn pieces of words from."""
    words = [word for text in texts for word in text.split()]
    letters = sum(word[:1].isalpha() for word in words)
    return (
        len(texts) >= NATURAL_ROWS
        and len(words) >= NATURAL_WORDS * len(texts)
        and letters > len(words) / 2
    )


def _pieces(texts: Sequence[str]) -> int:
    """Pieces to learn: more from more text."""
    words = sum(len(text.split()) for text in texts)
    return int(min(MOST_PIECES, max(LEAST_PIECES, PIECE_SHARE * words)))
