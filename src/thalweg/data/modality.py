"""A modality: all that is particular to one kind of inputs, from files to the model and back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from thalweg.data.batch import Inputs
from thalweg.data.images.background_decoding import BackgroundDecoding
from thalweg.data.images.file_survey import Survey
from thalweg.data.near_copies import CopyPairs
from thalweg.data.samples import Quarantined, Samples
from thalweg.data.series.options import SeriesOptions
from thalweg.data.split import Holdout
from thalweg.data.statistics import Moments
from thalweg.data.tables.column import Column
from thalweg.data.text.divide_text import TextOptions
from thalweg.data.text.vocabulary import Vocabulary
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.recipe import Recipe


@runtime_checkable
class Preprocessing(Protocol):
    """Decoded samples → what the model takes. Saved with the model, so that it cannot differ later.

    A frozen value whose `repr` is part of the data set's fingerprint.
    """

    modality: ClassVar[str]

    def to_inputs(self, raw: Any) -> Any:
        """The model's inputs, from decoded samples that `Modality.collate` has collated."""

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON, with the modality's name as `kind`."""


class ReadOptions(NamedTuple):
    """Options of reading; a modality heeds those that apply to it."""

    image_size: int = 0  # pixels; 0: chosen from the images
    progress: Callable[[int, int], None] | None = None  # called with (done, all)
    overlap: bool = False  # decode in the background
    survey: Survey | None = None  # of image files, if there is one already
    divides: bool = False  # samples will be held out, and near copies are to stay together
    text: TextOptions = TextOptions()  # of tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInputs:
    """Samples as arrays, one a row, with digests, quarantine and notes."""

    rows: Any  # an array [n, ...], or a sequence of arrays that differ in length
    digests: np.ndarray  # uint8 [n, 16], of each sample's content
    good: np.ndarray  # bool [n]; the content of other rows is undefined
    original_size: tuple[int, int] = (0, 0)
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    decoding: BackgroundDecoding | None = None
    columns: tuple[Column, ...] = ()  # of a table

    def wait_for(self, rows: np.ndarray) -> None:
        """Wait until these rows are filled."""
        if self.decoding is not None:
            self.decoding.wait_for(rows)


class DivideOptions(NamedTuple):
    """Options of dividing what a source lists into samples; a modality heeds its own."""

    text: TextOptions = TextOptions()
    series: SeriesOptions = SeriesOptions()


class Prepared(NamedTuple):
    """Rows to gather batches from, and the preprocessing fitted to them."""

    rows: Any
    preprocessing: Any  # a Preprocessing
    notes: tuple[str, ...] = ()


class SourceRow(NamedTuple):
    """A sample of a file to predict."""

    name: str
    raw: Any  # decoded, as `Modality.collate` takes it
    error: str = ""  # the reason why it cannot be predicted
    steps: tuple[str, ...] = ()  # the times of a forecast's steps


class AugmentedSplit(NamedTuple):
    """The samples that an augmentation is for."""

    rows: Any  # of the data set
    size: int  # samples in the split
    seed: int
    home: torch.device  # of the positions in the split
    device: torch.device  # of the raw samples


# Changes a batch's raw samples at random. Called with them and a generator, and by keyword with
# `positions` (of the samples in their split), `epoch`, and `part` (the rows of the batch that these
# are: chance is drawn for all of it).
Augmentation = Callable[..., Any]


def stack(samples: Sequence[Any]) -> Tensor:
    """Samples of one shape as one tensor."""
    return torch.from_numpy(np.stack(samples))


def zeros(facts: DataFacts, count: int) -> Inputs:
    """Inputs of the shape that the facts state."""
    return torch.zeros(count, *facts.input_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """A line of the table of modalities. Features that most modalities lack have a default."""

    name: str
    noun: str  # for one sample, in reports and predictions
    takes: Callable[[object], bool]  # True for `Samples.inputs` of this modality
    read: Callable[[Samples, ReadOptions], StoredInputs]
    prepare: Callable[[StoredInputs, np.ndarray, tuple[str, ...]], Prepared]  # train rows, features
    input_shape: Callable[[Any], tuple[int, ...]]  # of one prepared row, as the model takes it
    restore: Callable[[Mapping[str, Any]], Any]  # the inverse of `Preprocessing.to_dict`
    # The samples in a file to predict, or in its bytes; the first argument is the preprocessing.
    read_source: Callable[[Any, Path | bytes], Iterable[SourceRow]]
    recipe: Callable[[DataFacts, Mapping[str, object]], Recipe]  # facts, chosen keys → defaults
    collate: Callable[[Sequence[Any]], Inputs] = stack  # of raw samples, padded where they differ
    example: Callable[[DataFacts, int], Inputs] = zeros
    size: Callable[[DataFacts], str] = lambda facts: ""  # of a sample, in words
    describe: Callable[[DataFacts], Mapping[str, str]] = lambda facts: {}  # lines for the report
    picture: Callable[[Any], bytes | None] = lambda raw: None  # of a raw sample, for the report
    # Of a recipe's `augment` and a preprocessing; None: there is none.
    augmentation: Callable[[Any, Any, AugmentedSplit], Augmentation] | None = None
    augment_keys: frozenset[str] = frozenset()  # keys of the recipe's `augment` that apply
    has_augmented_views: bool = False  # test-time augmentation is possible
    # Raw samples are uint8 [height, width, channel], float32 [number], a `Document`, or neither.
    layout: Literal["pixels", "row", "document", ""] = ""
    # Pairs of rows that are near copies, of stored rows, those to look at, and the original size;
    # None where near copies cannot be told.
    near_copies: Callable[[Any, np.ndarray, tuple[int, int]], CopyPairs | None] = (
        lambda rows, good, original_size: None
    )
    implied_keys: Callable[[DataFacts], Mapping[str, object]] = lambda facts: {}  # of the recipe
    suffixes: frozenset[str] = frozenset()  # of the files in a folder to predict
    feeds: frozenset[str] = frozenset({"numbers"})  # kinds of inputs of the networks it suits
    suits_pretrained: Callable[[Any], bool] = lambda inputs: False  # of `Samples.inputs`
    # The samples in a value in memory: an array, a picture, a data frame. None: it takes no values.
    read_object: Callable[[Any, Any], Iterable[SourceRow]] | None = None
    # Further facts of prepared samples, by their names in `DataFacts`.
    facts: Callable[[Prepared], Mapping[str, Any]] = lambda prepared: {}
    # Notes on what prepared samples tell of the targets; the last array holds the training rows.
    target_notes: Callable[[Prepared, np.ndarray, np.ndarray], Sequence[str]] = (
        lambda prepared, targets, train: ()
    )
    # A source's samples → the samples to train on, such as the windows of one long text. None: the
    # same.
    divide: Callable[[Samples, DivideOptions, Holdout], Samples] | None = None
    val_fraction: float = 0.2  # of the samples, held out where the user names no share
    # Raw samples by name whose outputs, less those of the last one, say what a model goes by, such
    # as texts of one word. None: there are none.
    probes: Callable[[Any], Sequence[tuple[str, Any]]] | None = None
    # The targets that raw samples hold themselves, such as the tokens that follow. None: none.
    own_targets: Callable[[Any], Tensor] | None = None
    # The vocabulary of a preprocessing whose targets are tokens, so that a model can write text.
    vocabulary: Callable[[Any], Vocabulary | None] = lambda preprocessing: None
    # The length of each prepared row, so that batches hold rows of similar length. None: any order.
    row_lengths: Callable[[Any], np.ndarray] | None = None
    # The length of each target, of `Samples.inputs`, so that long ones can be held out. None: none.
    target_lengths: Callable[[Any], np.ndarray] | None = None
    # Of a preprocessing and a raw sample: the text that it is read as, and the text of each token;
    # "" and None for what is no text.
    text_of_row: Callable[[Any, Any], str] = lambda preprocessing, raw: ""
    token_texts: Callable[[Any, Any], list[str]] | None = None
    takes_questions: bool = False  # a sample is a question about an image
    takes_text: bool = False  # a word to predict that names no file is a sample itself
    # A model that sees a part of the inputs, such as a question without its image. Called with
    # prepared rows and targets, by keyword with the rows to fit (`train`) and to answer (`val`);
    # returns its name and its answers. None: there is none.
    partial_answers: Callable[..., tuple[str, np.ndarray]] | None = None
    # The kind of each prepared row, whose scores the report lists apart. None: there are none.
    kinds: Callable[[Any], Sequence[str]] | None = None
    # Collated raw samples of some rows, where they are no array; None: one by one, by `collate`.
    gather: Callable[[Any, np.ndarray], Inputs] | None = None
    # The steps that a preprocessing's targets go ahead, where the task is a forecast; 0: none.
    horizon: Callable[[Any], int] = lambda preprocessing: 0
    # Decoded outputs in the unit of the raw samples, where each has a scale of its own.
    in_units: Callable[[Any, Tensor], Tensor] = lambda raw, decoded: decoded
    # Preprocessing and facts for a pretrained network, by the statistics of its inputs.
    pretrained_format: Callable[[Any, DataFacts, Moments], tuple[Any, DataFacts]] | None = None
