"""Pairs of sequences; the network reads the source and writes the target token by token."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from thalweg.data.batch import Inputs
from thalweg.data.caveat import Caveat
from thalweg.data.modality import Modality, Prepared, ReadOptions, SourceRow, StoredInputs
from thalweg.data.preprocessing import recorded_text
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import Samples
from thalweg.data.sources.source_texts import source_texts
from thalweg.data.text.bordered import BORDER, Bordered, restore_bordered
from thalweg.data.text.choose_tokens import choose_tokens
from thalweg.data.text.pairs import EncodedPair, EncodedPairs, Pairs, join_pairs
from thalweg.data.text.vocabulary import Vocabulary
from thalweg.errors import DataError, printable
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.sequence_pairs import sequence_pairs
from thalweg.tasks.token_losses import IGNORED
from thalweg.wording import count

NAME = "pairs"
MOST_SOURCE = 1_024  # tokens of a source that are read; attention costs time and memory for each
MOST_CONTEXT = 4_096  # tokens of a recorded length
MOST_PAIR = 1_000_000  # tokens; sources order pairs of equal targets


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairPreprocessing:
    """The vocabularies of both sides, and the longest target, by which writing is bounded."""

    modality: ClassVar[str] = NAME
    source: Bordered
    target: Bordered
    source_name: str
    target_name: str
    longest: int  # tokens of the longest target, without its borders

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def to_inputs(self, raw: Mapping[str, Tensor]) -> Inputs:
        """All but the targets."""
        return {name: tensor for name, tensor in raw.items() if name != "targets"}

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {
            "kind": NAME,
            "source": self.source.to_dict(),
            "target": self.target.to_dict(),
            "source_name": self.source_name,
            "target_name": self.target_name,
            "longest": self.longest,
        }


def restore(values: Mapping[str, Any]) -> PairPreprocessing:
    """The inverse of `to_dict`. Raises ValueError for an impossible length."""
    longest = int(values["longest"])
    if not 0 < longest <= MOST_CONTEXT:
        raise ValueError(f"targets of {longest} tokens")
    return PairPreprocessing(
        source=restore_bordered(values["source"]),
        target=restore_bordered(values["target"]),
        source_name=str(values["source_name"]),
        target_name=str(values["target_name"]),
        longest=longest,
    )


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The texts as they are, with a digest of each source: equal ones stay in one split."""
    pairs: Pairs = samples.inputs
    texts = (np.frombuffer(text.encode(), dtype=np.uint8) for text in pairs.sources)
    good = np.ones(len(pairs), dtype=bool)
    return StoredInputs(rows=(pairs, options.text), digests=row_digests(texts), good=good)


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Choose the tokens of each side, and encode all pairs."""
    pairs, options = stored.rows
    sides, notes = [], []
    names = pairs.source_name, pairs.target_name
    for name, texts in zip(names, (pairs.sources, pairs.targets), strict=True):
        own = [texts[row] for row in train.tolist()]
        vocabulary, note = choose_tokens(texts, own, options)
        sides.append(Bordered(vocabulary))
        notes.append(_side_note(name, vocabulary, note))
    source, target = sides
    whole = [source.encode(text) for text in pairs.sources]
    encoded = join_pairs(
        [
            (tokens[:MOST_SOURCE], target.encode(text))
            for tokens, text in zip(whole, pairs.targets, strict=True)
        ]
    )
    if cut := sum(len(tokens) > MOST_SOURCE for tokens in whole):
        text = (
            f"{count(cut, 'source')} are longer than {MOST_SOURCE:,} {source.noun}s: only their "
            "beginnings are read"
        )
        notes.append(Caveat(text, "Long sources were cut"))
    preprocessing = PairPreprocessing(
        source=source,
        target=target,
        source_name=pairs.source_name,
        target_name=pairs.target_name,
        longest=int(encoded.target_lengths.max()),
    )
    notes += _untrained(encoded, train, preprocessing)
    return Prepared(encoded, preprocessing, tuple(notes))


def _side_note(name: str, vocabulary: Vocabulary, note: str) -> str:
    noun = vocabulary.noun
    text = f"{name}: read as {noun}s, {len(vocabulary):,} different ones"
    return f"{text}; {note}" if note else text


def _untrained(
    encoded: EncodedPairs, train: np.ndarray, preprocessing: PairPreprocessing
) -> list[str]:
    """Notes on tokens that no training pair has: the network cannot learn them."""
    notes = []
    for side in ("source", "target"):
        vocabulary: Bordered = getattr(preprocessing, side)
        if vocabulary.noun == "token":
            continue  # pieces of words are those of the training pairs
        own = {int(token) for row in train.tolist() for token in getattr(encoded[row], side)}
        missing = [token for token in range(1, len(vocabulary)) if token not in own]
        if missing:
            names = " ".join(repr(printable(vocabulary.decode([token]))) for token in missing[:8])
            notes.append(
                f"{count(len(missing), vocabulary.noun)} of the {side}s in no training pair: the "
                f"network cannot learn {'it' if len(missing) == 1 else 'them'} ({names})"
            )
    return notes


def collate(rows: Sequence[EncodedPair]) -> dict[str, Tensor]:
    """Padded tensors of a batch.

    `tokens` begin with the border and lack the last token; `targets` end with the border and are
    −100 at padding. Both are padded behind, and a source's mask is True at its tokens.
    """
    sources = max(1, *(len(row.source) for row in rows))
    steps = max(len(row.target) for row in rows) + 1
    source = np.zeros((len(rows), sources), dtype=np.int64)
    mask = np.zeros((len(rows), sources), dtype=bool)
    tokens = np.full((len(rows), steps), BORDER, dtype=np.int64)
    targets = np.full((len(rows), steps), IGNORED, dtype=np.int64)
    for place, row in enumerate(rows):
        source[place, : len(row.source)] = row.source
        mask[place, : max(1, len(row.source))] = True
        tokens[place, 1 : len(row.target) + 1] = row.target
        targets[place, : len(row.target)] = row.target
        targets[place, len(row.target)] = BORDER
    named = {"tokens": tokens, "source": source, "source_mask": mask, "targets": targets}
    return {name: torch.from_numpy(array) for name, array in named.items()}


def facts(prepared: Prepared) -> Mapping[str, Any]:
    """The longest sequence of each side, and the sizes of the vocabularies."""
    encoded: EncodedPairs = prepared.rows
    preprocessing: PairPreprocessing = prepared.preprocessing
    return {
        "input_shape": (
            max(1, int(encoded.source_lengths.max())),
            preprocessing.longest + 1,  # with the border
            len(preprocessing.source),
        ),
        "vocabulary": len(preprocessing.target),
        "tokens": int(encoded.target_lengths.sum()) + len(encoded),
        "token_noun": preprocessing.target.noun,
        "source_noun": preprocessing.source.noun,
    }


def example(facts: DataFacts, size: int) -> Inputs:
    """Pairs of the longest lengths, of one token alone."""
    sources, steps, _ = facts.input_shape
    return {
        "tokens": torch.zeros(size, steps, dtype=torch.long),
        "source": torch.zeros(size, sources, dtype=torch.long),
        "source_mask": torch.ones(size, sources, dtype=torch.bool),
    }


def read_source(preprocessing: PairPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """The sources in a file: a line each, or the column of a table; unknown tokens fail alone.

    Raises: DataError for a file that cannot be read.
    """
    for name, text in source_texts(source, column=preprocessing.source_name):
        yield encode_source(preprocessing, name, text)


def read_object(preprocessing: PairPreprocessing, value: Any) -> Iterator[SourceRow]:
    """The sources of texts in memory."""
    texts = [value] if isinstance(value, str) else list(value)
    for text in texts:
        yield encode_source(preprocessing, printable(str(text))[:80], str(text))


def encode_source(preprocessing: PairPreprocessing, name: str, text: str) -> SourceRow:
    """The tokens of a source; with an error instead where it has unknown ones, or none."""
    try:
        tokens = preprocessing.source.encode(text.strip())
    except DataError as error:
        return SourceRow(name, None, f"{error.problem}: {error.seen}")
    if not len(tokens):
        return SourceRow(name, None, "it is empty")
    return SourceRow(name, EncodedPair(tokens[:MOST_SOURCE], np.zeros(0, dtype=np.int32)))


def _size(facts: DataFacts) -> str:
    longest, steps, _ = facts.input_shape
    written = f"{count(steps - 1, facts.token_noun)} to write"
    return f"at most {count(longest, facts.source_noun)} to read, {written}"


PAIRS = Modality(
    name=NAME,
    noun="sequence",
    feeds=frozenset({"pairs"}),
    takes=lambda inputs: isinstance(inputs, Pairs),
    read=read,
    prepare=prepare,
    collate=collate,
    input_shape=lambda row: (len(row.source), len(row.target) + 1, 2),
    restore=restore,
    read_source=read_source,
    read_object=read_object,
    takes_text=True,
    recipe=sequence_pairs,
    example=example,
    size=_size,
    describe=lambda facts: {
        "Source": f"{count(facts.input_shape[2] - 1, 'different ' + facts.source_noun)}",
        "Target": f"{count(facts.vocabulary - 1, 'different ' + facts.token_noun)}",
    },
    facts=facts,
    own_targets=lambda raw: raw["targets"],
    row_lengths=lambda rows: rows.target_lengths + rows.source_lengths / MOST_PAIR,
    target_lengths=lambda inputs: inputs.target_lengths,
    vocabulary=lambda preprocessing: preprocessing.target,
    text_of_row=lambda preprocessing, raw: preprocessing.source.decode(raw.source.tolist()),
    token_texts=lambda preprocessing, raw: [
        preprocessing.source.decode([token]) for token in raw.source.tolist()
    ],
    suffixes=frozenset({".txt", ".csv", ".tsv"}),
)
