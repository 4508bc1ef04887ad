"""Texts to classify or to value, each a sample, alone or beside the other columns of a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from thalweg.data.batch import Inputs
from thalweg.data.document_sources import documents_in_file, documents_in_value
from thalweg.data.modalities.vector import VectorPreprocessing, fit_columns
from thalweg.data.modalities.vector import restore as restore_vectors
from thalweg.data.modality import Modality, Prepared, ReadOptions, SourceRow, StoredInputs
from thalweg.data.near_copies import CopyPairs
from thalweg.data.preprocessing import recorded_text
from thalweg.data.samples import Quarantined, Samples
from thalweg.data.tables.column import Column
from thalweg.data.tables.determining_columns import determining_notes
from thalweg.data.text.documents import (
    Document,
    DocumentRows,
    Documents,
    document_digests,
    excerpt,
)
from thalweg.data.text.near_texts import near_texts
from thalweg.data.text.ngrams import Ngrams, fit_ngrams, restore_ngrams
from thalweg.data.text.telling_words import telling_notes
from thalweg.data.text.word_rows import MOST_CHARACTERS, WordRows, read_words
from thalweg.recipes.documents import documents
from thalweg.recipes.facts import DataFacts
from thalweg.wording import count

NAME = "document"
MOST_PROBES = 4_000  # n-grams whose effect on the outputs is measured


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DocumentPreprocessing:
    """The vocabulary of the training texts, and the statistics of the columns beside them."""

    modality: ClassVar[str] = NAME
    ngrams: Ngrams
    text_columns: tuple[str, ...] = ()  # of a table; () where the texts are files
    vector: VectorPreprocessing | None = None  # of the other columns

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def to_inputs(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The padded n-grams and words, and the columns as a table's network takes them."""
        inputs = {name: tensor for name, tensor in raw.items() if name != "numbers"}
        if self.vector is not None:
            inputs["columns"] = self.vector.to_inputs(raw["numbers"])
        return inputs

    def rows(self, words: WordRows, texts: Documents) -> DocumentRows:
        """The texts as numbers."""
        ngrams, tokens = self.ngrams.encode(words), self.ngrams.sequences(words)
        return DocumentRows(ngrams, tokens, texts.numbers, texts.texts)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        values: dict[str, Any] = {"kind": NAME, "ngrams": self.ngrams.to_dict()}
        if self.text_columns:
            values["text_columns"] = list(self.text_columns)
        if self.vector is not None:
            values["vector"] = self.vector.to_dict()
        return values


def restore(values: Mapping[str, Any]) -> DocumentPreprocessing:
    """The inverse of `DocumentPreprocessing.to_dict`. Raises ValueError where it is damaged."""
    vector = values.get("vector")
    return DocumentPreprocessing(
        ngrams=restore_ngrams(values["ngrams"]),
        text_columns=tuple(map(str, values.get("text_columns", ()))),
        vector=None if vector is None else restore_vectors(vector),
    )


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """The texts as they are; those without a word are left out where there is nothing beside."""
    texts: Documents = samples.inputs
    good = np.ones(len(texts), dtype=bool)
    quarantined: list[Quarantined] = []
    if not texts.numbers.shape[1]:
        good = np.array([bool(text.strip()) for text in texts.texts], dtype=bool)
        names = (samples.names[row] for row in np.flatnonzero(~good).tolist())
        quarantined = [Quarantined(name, "no text") for name in names]
    notes = []
    if long := sum(len(text) > MOST_CHARACTERS for text in texts.texts):
        notes.append(f"{long:,} texts are read up to {MOST_CHARACTERS:,} characters")
    return StoredInputs(
        rows=texts,
        digests=document_digests(texts),
        good=good,
        quarantined=tuple(quarantined),
        notes=tuple(notes),
        columns=samples.columns,
    )


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Fit the vocabulary, and the statistics of other columns, to the training rows."""
    texts: Documents = stored.rows
    words = read_words(texts.texts)
    vector, notes = None, tuple[str, ...]()
    if texts.numbers.shape[1]:
        table = StoredInputs(
            rows=texts.numbers, digests=stored.digests, good=stored.good, columns=stored.columns
        )
        numbers, vector, notes = fit_columns(table, train, features)
        texts = replace(texts, numbers=numbers)
    preprocessing = DocumentPreprocessing(
        ngrams=fit_ngrams(words, train), text_columns=texts.columns, vector=vector
    )
    ngrams = preprocessing.ngrams
    note = (
        f"vocabulary of the training texts: {len(ngrams.words):,} words, "
        f"{len(ngrams.neighbours):,} neighbours, {len(ngrams.pieces):,} pieces of words, each in "
        "two texts or more"
    )
    return Prepared(preprocessing.rows(words, texts), preprocessing, (note, *notes))


def collate(samples: Sequence[Document]) -> Inputs:
    """Padded n-grams with weights, padded words with a mask, and the columns' numbers."""
    ngrams = _pad([sample.ngrams for sample in samples])
    tokens = _pad([sample.tokens for sample in samples])
    weights = torch.zeros(ngrams.shape)
    for row, sample in enumerate(samples):
        weights[row, : len(sample.weights)] = torch.from_numpy(sample.weights)
    group = {"ngrams": ngrams, "weights": weights, "tokens": tokens, "mask": tokens > 0}
    if len(samples[0].numbers):
        group["numbers"] = torch.from_numpy(np.stack([sample.numbers for sample in samples]))
    return group


def _pad(rows: Sequence[np.ndarray]) -> Tensor:
    """int64 [n, longest], at least one column; 0 behind each row's end."""
    padded = np.zeros((len(rows), max(1, *map(len, rows))), dtype=np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)


def facts(prepared: Prepared) -> Mapping[str, Any]:
    """The sizes of the vocabulary, and the columns beside the texts."""
    preprocessing: DocumentPreprocessing = prepared.preprocessing
    ngrams, vector = preprocessing.ngrams, preprocessing.vector
    sizes: dict[str, Any] = {
        "input_shape": (len(ngrams),),
        "vocabulary": len(ngrams),
        "words": ngrams.tokens,
        "token_noun": "n-gram",
    }
    if vector is not None:
        layout = vector.layout
        sizes |= {
            "columns": vector.num_inputs,
            "num_numbers": len(layout.numbers),
            "categories": tuple(size for _, size in layout.categories),
        }
    return sizes


def example(facts: DataFacts, size: int) -> Inputs:
    """Texts of one unknown word."""
    group = {
        "ngrams": torch.zeros(size, 1, dtype=torch.long),
        "weights": torch.zeros(size, 1),
        "tokens": torch.full((size, 1), facts.words - 1),
        "mask": torch.ones(size, 1, dtype=torch.bool),
    }
    if facts.columns:
        group["columns"] = torch.zeros(size, facts.columns)
    return group


def near_copies(
    texts: Documents, good: np.ndarray, original_size: tuple[int, int]
) -> CopyPairs | None:
    """Pairs of texts that are nearly the same."""
    return near_texts(read_words(texts.texts))


def target_notes(prepared: Prepared, targets: np.ndarray, train: np.ndarray) -> list[str]:
    """A note for each word, and each column, that tells the target alone."""
    rows: DocumentRows = prepared.rows
    preprocessing: DocumentPreprocessing = prepared.preprocessing
    names = preprocessing.ngrams.words
    words = [_words_in(row, len(names)) for row in rows]
    notes = telling_notes(words, targets, train=train, names=names)
    if preprocessing.vector is not None:
        features = preprocessing.vector.features
        notes += determining_notes(rows.numbers, targets, train=train, names=features)
    return notes


def _words_in(row: Document, words: int) -> np.ndarray:
    return row.ngrams[row.ngrams <= words].astype(np.int64) - 1


def read_source(preprocessing: DocumentPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """A row for each row of a table, for each record of JSON, or for a file of text."""
    columns = _columns(preprocessing)
    return _rows(preprocessing, documents_in_file(source, preprocessing.text_columns, columns))


def read_object(preprocessing: DocumentPreprocessing, value: Any) -> Iterator[SourceRow]:
    """A row for each row of a data frame, dictionary of a list, or text of a list."""
    columns = _columns(preprocessing)
    return _rows(preprocessing, documents_in_value(value, preprocessing.text_columns, columns))


def _columns(preprocessing: DocumentPreprocessing) -> Sequence[Column]:
    """The columns beside the texts."""
    vector = preprocessing.vector
    if vector is None:
        return ()
    return vector.columns or [Column(name=name) for name in vector.features]


def _rows(preprocessing: DocumentPreprocessing, table: Any) -> Iterator[SourceRow]:
    rows = preprocessing.rows(read_words(table.documents.texts), table.documents)
    pairs = zip(table.names, table.documents.texts, rows, strict=True)
    for place, (name, text, row) in enumerate(pairs):
        shown = f"{name} “{excerpt(text)}”"
        yield SourceRow(shown, row, table.reasons.get(place, ""))


def probes(preprocessing: DocumentPreprocessing) -> list[tuple[str, Document]]:
    """Texts of one n-gram each, a word or neighbours, the most frequent first; then an empty one.

    The outputs for them, less those of the empty text, are what the n-grams say.
    """
    ngrams, vector = preprocessing.ngrams, preprocessing.vector
    numbers = np.zeros(0 if vector is None else len(vector.mean), dtype=np.float32)
    if vector is not None:
        numbers[:] = vector.mean
    whole = len(ngrams.words) + len(ngrams.neighbours)
    frequencies = np.array(ngrams.frequencies[:whole])
    order = np.argsort(-frequencies, kind="stable")[:MOST_PROBES]
    unknown = np.array([ngrams.tokens - 1], dtype=np.int32)
    one = np.ones(1, dtype=np.float32)
    samples = []
    for place in order.tolist():
        run = ngrams.words_in(place + 1)
        tokens = np.array(run, dtype=np.int32) + 1
        entry = np.array([place + 1], dtype=np.int32)
        samples.append((ngrams.name(place + 1), Document(entry, one, tokens, numbers)))
    nothing = np.zeros(0, dtype=np.int32)
    return [*samples, ("", Document(nothing, np.zeros(0, dtype=np.float32), unknown, numbers))]


DOCUMENT = Modality(
    name=NAME,
    noun="text",
    feeds=frozenset({"texts"}),
    takes=lambda inputs: isinstance(inputs, Documents),
    read=read,
    prepare=prepare,
    input_shape=lambda row: (1,),
    restore=restore,
    read_source=read_source,
    read_object=read_object,
    recipe=documents,
    collate=collate,
    example=example,
    describe=lambda facts: {
        "Vocabulary": count(facts.vocabulary - 1, "n-gram"),
        **({"Columns beside the text": count(facts.columns, "input")} if facts.columns else {}),
    },
    layout="document",
    near_copies=near_copies,
    target_notes=target_notes,
    facts=facts,
    probes=probes,
    suffixes=frozenset({".txt", ".text", ".csv", ".tsv", ".json", ".jsonl", ".parquet"}),
    takes_text=True,
)
