"""One long text → windows of tokens, split into beginning (training) and end (validation, test)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from thalweg.data.caveat import Caveat
from thalweg.data.samples import Samples
from thalweg.data.split import Holdout
from thalweg.data.text.byte_pairs import fit_byte_pairs
from thalweg.data.text.overlap import LENGTH, repeated_share
from thalweg.data.text.vocabulary import Vocabulary, fit_characters
from thalweg.data.text.windows import WindowNames, Windows
from thalweg.errors import DataError, UsageError

MOST_FOR_CHARACTERS = 5_000_000  # characters, from which on pieces of words are learned
MOST_PIECES, PIECE_SHARE = 8_192, 1 / 2_000  # of the text's characters
LEAST_PIECES = 512
MOST_REPEATED = 0.05  # of the validation text; a licence or a heading recurs in any
LEAST_WINDOWS = 8  # of the validation split, where the context is chosen
MOST_CONTEXT, LEAST_CONTEXT = 8_192, 2
CONTEXTS = (256, 128, 64, 32, 16)  # tokens
TOKENS_FOR_CONTEXT = 3_500  # of the text for each token of the context that is chosen

Tokenizer = Literal["auto", "characters", "words", "bpe"]


class TextOptions(NamedTuple):
    """Options of texts and of pairs of them; 0, "" and "auto" are chosen from the data."""

    context: int = 0  # tokens
    tokenizer: Tokenizer = "auto"
    pieces: int = 0  # of the vocabulary, where it is learned
    source: str = ""  # a table's column that sequences are written from
    split: Literal["random", "length"] = "random"  # length: pairs with the longest targets validate

    def check(self) -> None:
        """Raise UsageError for impossible values."""
        if self.context and not LEAST_CONTEXT <= self.context <= MOST_CONTEXT:
            raise UsageError(
                f"no window can have {self.context:,} tokens here",
                fix=f"data.context from {LEAST_CONTEXT} to {MOST_CONTEXT:,}, or 0",
            )
        if self.pieces and not 256 <= self.pieces <= 65_536:
            raise UsageError(
                f"a vocabulary cannot have {self.pieces:,} pieces here",
                fix="data.pieces from 256 to 65,536, or 0",
            )


class Text(NamedTuple):
    """A whole text, and the file that it comes from."""

    text: str
    path: Path


def divide_text(samples: Samples, options: TextOptions, holdout: Holdout) -> Samples:
    """The text's windows as samples, with the following tokens as labels.

    The end of the text validates, and what is before it trains. Pieces of words are learned from
    the training part alone. Raises DataError where a part is too short for a window, UsageError
    for folds.
    """
    options.check()
    if options.tokenizer == "words":
        raise UsageError(
            "words are tokens of pairs of texts, not of one long text",
            seen="data.tokenizer=words",
            fix="data.tokenizer=bpe: pieces of words",
        )
    source: Text = samples.inputs
    if holdout.folds:
        raise UsageError(
            "one text cannot be divided into folds",
            seen=f"data.folds={holdout.folds}",
            fix="leave them out: the end of the text validates",
        )
    parts = _parts(source.text, holdout)
    vocabulary = _vocabulary(source.text, parts[0], options)
    tokens = [vocabulary.encode(part) for part in parts]
    ends = np.cumsum([len(part) for part in tokens]).tolist()
    windows = Windows(
        tokens=np.concatenate(tokens),
        borders=tuple(zip([0, *ends], ends, strict=False)),
        context=options.context or _context(len(tokens[0]), len(tokens[1])),
        vocabulary=vocabulary,
    )
    _check_counts(windows, source.path)
    notes = _notes(windows, parts)
    return Samples(
        inputs=windows,
        names=WindowNames(windows),
        labels=windows.targets,
        splits=windows.splits,
        label_place=f"the text {source.path.name}",
        notes=(*samples.notes, *notes),
    )


def _parts(text: str, holdout: Holdout) -> tuple[str, str, str]:
    """The training, validation and test part, from the beginning to the end."""
    test = len(text) - round(holdout.test_fraction * len(text))
    train = int((1 - holdout.val_fraction) * test)
    return text[:train], text[train:test], text[test:]


def _vocabulary(text: str, train: str, options: TextOptions) -> Vocabulary:
    uses_characters = options.tokenizer == "characters" or (
        options.tokenizer == "auto" and not options.pieces and len(text) <= MOST_FOR_CHARACTERS
    )
    if uses_characters:
        return fit_characters(text)
    size = int(PIECE_SHARE * len(train))
    chosen = min(MOST_PIECES, max(LEAST_PIECES, 1 << max(0, size.bit_length() - 1)))
    return fit_byte_pairs(train, size=options.pieces or chosen)


def _context(train: int, val: int) -> int:
    """The longest context for which the text has enough tokens, and the validation windows."""
    fitting = (
        context
        for context in CONTEXTS
        if train >= TOKENS_FOR_CONTEXT * context and val > LEAST_WINDOWS * context
    )
    return next(fitting, CONTEXTS[-1])


def _check_counts(windows: Windows, path: Path) -> None:
    train, val, _ = windows.counts
    if train and val:
        return
    raise DataError(
        f"{path} is too short for windows of {windows.context:,} {windows.vocabulary.noun}s",
        seen=f"{train:,} to train on and {val:,} to validate with",
        fix="give more text, or a smaller data.context",
    )


def _notes(windows: Windows, parts: Sequence[str]) -> list[str]:
    vocabulary, noun = windows.vocabulary, windows.vocabulary.noun
    train, val, test = (end - begin for begin, end in windows.borders)
    share = val / (train + val)
    notes = [
        f"text: {len(windows.tokens):,} {noun}s, {len(vocabulary):,} different ones, in windows of "
        f"{windows.context:,}",
        f"split: the last {share:.0%} of the text validates, {val:,} {noun}s; no window crosses "
        "the border" + (f"; the {test:,} after them are the test split" if test else ""),
    ]
    repeated = repeated_share(*(windows.tokens[slice(*border)] for border in windows.borders[:2]))
    if repeated > MOST_REPEATED:
        text = (
            f"{repeated:.0%} of the validation text stands in the training text, in runs of "
            f"{LENGTH} {noun}s or more: the loss is that of a text it has seen"
        )
        notes.append(Caveat(text, "Validation text is in the training text"))
    unseen = set(parts[1]) - set(parts[0])
    if unseen and noun == "character":
        notes.append(
            f"{len(unseen):,} characters stand in the validation part alone: the network cannot "
            f"learn them ({' '.join(map(repr, sorted(unseen)[:8]))})"
        )
    return notes
