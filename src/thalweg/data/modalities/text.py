"""One long text, in windows of tokens; the network predicts the token after each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from thalweg.data.batch import Part, derived_seed
from thalweg.data.modality import (
    Augmentation,
    AugmentedSplit,
    Modality,
    Prepared,
    ReadOptions,
    SourceRow,
    StoredInputs,
)
from thalweg.data.preprocessing import recorded_text
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import Samples
from thalweg.data.text.divide_text import MOST_CONTEXT, Text, divide_text
from thalweg.data.text.read_text import decode_text, read_text_file
from thalweg.data.text.vocabulary import Vocabulary, restore_vocabulary
from thalweg.data.text.windows import Windows, shifted_starts
from thalweg.errors import DataError, UsageError
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.language_model import language_model
from thalweg.wording import count

NAME = "text"
OFFSET = -2  # the place of a window offset among the seeds of an epoch; -1 is that of its order


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TextPreprocessing:
    """The vocabulary, and the length of the windows that the network was trained on."""

    modality: ClassVar[str] = NAME
    vocabulary: Vocabulary
    context: int  # tokens

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def to_inputs(self, raw: Int64[Tensor, "n longer"]) -> Int64[Tensor, "n token"]:
        """The tokens of windows, without the one after them."""
        return raw[:, :-1]

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {"kind": NAME, "context": self.context, **self.vocabulary.to_dict()}


def restore(values: Mapping[str, Any]) -> TextPreprocessing:
    """The inverse of `TextPreprocessing.to_dict`. Raises ValueError for an impossible context."""
    context = int(values["context"])
    if not 0 < context <= MOST_CONTEXT:
        raise ValueError(f"a context of {context} tokens")
    return TextPreprocessing(vocabulary=restore_vocabulary(values), context=context)


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The windows as they are, with a digest of each."""
    windows: Windows = samples.inputs
    good = np.ones(len(windows), dtype=bool)
    return StoredInputs(rows=windows, digests=row_digests(windows), good=good)


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """The vocabulary and the context that the text was divided with."""
    windows: Windows = stored.rows
    preprocessing = TextPreprocessing(vocabulary=windows.vocabulary, context=windows.context)
    return Prepared(windows, preprocessing)


def facts(prepared: Prepared) -> Mapping[str, Any]:
    """The length of a window and the size of the vocabulary."""
    windows: Windows = prepared.rows
    begin, end = windows.borders[0]
    return {
        "input_shape": (windows.context,),
        "vocabulary": len(windows.vocabulary),
        "tokens": end - begin,
        "token_noun": windows.vocabulary.noun,
    }


def example(facts: DataFacts, size: int) -> Tensor:
    """Windows of the first token alone."""
    return torch.zeros(size, *facts.input_shape, dtype=torch.long)


def augmentation(
    settings: Any, preprocessing: TextPreprocessing, split: AugmentedSplit
) -> Augmentation:
    """Move the windows of each epoch on by a random number of tokens, the same for all.

    With fixed windows the network would never see most tokens with the longest context, nor any
    context that crosses a border between two windows.
    """
    windows: Windows = split.rows

    def change(
        raw: Tensor, chance: torch.Generator, *, positions: Tensor, epoch: int, part: Part
    ) -> Tensor:
        offset = derived_seed(split.seed, epoch, OFFSET) % windows.context
        starts = shifted_starts(windows, positions.numpy(force=True), offset)
        return torch.from_numpy(windows.at(starts)).to(raw.device)

    return change


def read_source(preprocessing: TextPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """The windows of a text file; the last one ends where the text does.

    Raises: DataError for a file that is no text or has unknown characters.
    """
    if isinstance(source, bytes):
        return _rows(preprocessing, decode_text(source, name="the text"), name="the text")
    return _rows(preprocessing, read_text_file(source), name=str(source))


def read_object(preprocessing: TextPreprocessing, value: Any) -> Iterator[SourceRow]:
    """The windows of texts. A single text is a path everywhere else: give it in a list."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise UsageError(
            "the model takes texts", seen=type(value).__name__, fix="a text, or a list of texts"
        )
    for place, text in enumerate(texts):
        yield from _rows(preprocessing, text, name=f"text {place}")


def _rows(preprocessing: TextPreprocessing, text: str, *, name: str) -> Iterator[SourceRow]:
    vocabulary, length = preprocessing.vocabulary, preprocessing.context
    tokens = vocabulary.encode(text).astype(np.int64)
    if len(tokens) < length:
        raise DataError(
            f"{name} is shorter than the windows that the network was trained on",
            seen=f"{count(len(tokens), vocabulary.noun)}, not {length:,}",
            fix="a longer text; thalweg generate RUN --prompt TEXT goes on with any",
        )
    last = len(tokens) - length
    for start in [*range(0, last, length), last]:
        own = tokens[start : start + length + 1]
        # The token after the last window is what is asked for: a zero stands in its place.
        raw = own if start < last else np.append(own, 0)
        yield SourceRow(f"{name}, {vocabulary.noun}s {start + 1:,} to {start + length:,}", raw)


TEXT = Modality(
    name=NAME,
    noun="window",
    feeds=frozenset({"tokens"}),
    takes=lambda inputs: isinstance(inputs, Text | Windows),
    divide=lambda samples, options, holdout: divide_text(samples, options.text, holdout),
    read=read,
    prepare=prepare,
    input_shape=lambda row: (len(row) - 1,),
    restore=restore,
    read_source=read_source,
    read_object=read_object,
    recipe=language_model,
    example=example,
    size=lambda facts: f"{count(facts.input_shape[0], facts.token_noun)}",
    describe=lambda facts: {
        "Text to train on": count(facts.tokens, facts.token_noun),
        "Vocabulary": count(facts.vocabulary, facts.token_noun),
    },
    augmentation=augmentation,
    facts=facts,
    val_fraction=0.1,
    own_targets=lambda raw: raw[:, 1:],
    vocabulary=lambda preprocessing: preprocessing.vocabulary,
    implied_keys=lambda facts: {"data.context": facts.input_shape[0]},
    suffixes=frozenset({".txt", ".text"}),
)
