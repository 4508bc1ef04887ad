"""Questions about images: decoded pixels beside the words of a question."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from thalweg.data.batch import Inputs, Part
from thalweg.data.images.preprocessing import ImagePreprocessing
from thalweg.data.images.thumbnail import thumbnail
from thalweg.data.modalities.image import IMAGE
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
from thalweg.data.questions.pictured_questions import (
    PicturedQuestion,
    PicturedQuestions,
    Questions,
)
from thalweg.data.questions.question_alone import answers_to_words_alone, kinds_of
from thalweg.data.questions.question_words import (
    PADDING,
    QuestionWords,
    fit_question_words,
    restore_question_words,
)
from thalweg.data.row_digests import row_digests
from thalweg.data.samples import Quarantined, Samples
from thalweg.data.sources.question_file import question_file
from thalweg.errors import DataError, UsageError, printable
from thalweg.recipes.facts import DataFacts
from thalweg.recipes.question_answering import question_answering
from thalweg.wording import count, pixels

NAME = "question"
EXAMPLE_WORDS = 8  # in an example batch
# A mirror image has another answer to "what is left of …?", and a colour is often the answer.
AUGMENT_KEYS = frozenset({"crop_padding", "cutout", "flip", "brightness", "contrast", "saturation"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QuestionPreprocessing:
    """That of the images, and the words that a question is read as."""

    modality: ClassVar[str] = NAME
    image: ImagePreprocessing
    words: QuestionWords

    def __repr__(self) -> str:
        return recorded_text(self.to_dict())

    def to_inputs(self, raw: Mapping[str, Tensor]) -> Inputs:
        """Normalised images beside the words and their mask."""
        return {**raw, "images": self.image.to_inputs(raw["images"])}

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {"kind": NAME, "image": self.image.to_dict(), "words": list(self.words.entries)}


def restore(values: Mapping[str, Any]) -> QuestionPreprocessing:
    """The inverse of `QuestionPreprocessing.to_dict`. Raises ValueError where it is damaged."""
    return QuestionPreprocessing(
        image=ImagePreprocessing.from_dict(values["image"]),
        words=restore_question_words(values["words"]),
    )


def read(samples: Samples, options: ReadOptions) -> StoredInputs:
    """Each image decoded once; a question whose image cannot be decoded is quarantined."""
    questions: Questions = samples.inputs
    files = questions.images
    shown = replace(samples, inputs=files, names=files.names, groups=(), quarantined=())
    decoded = IMAGE.read(shown, options._replace(overlap=False, survey=None))
    good = decoded.good[questions.image_of]
    reasons = {each.name: each.reason for each in decoded.quarantined}
    quarantined = [
        Quarantined(samples.names[row], reasons.get(files.names[questions.image_of[row]], ""))
        for row in np.flatnonzero(~good).tolist()
    ]
    texts = (np.frombuffer(text.encode(), dtype=np.uint8) for text in questions.texts)
    pairs = zip(decoded.digests[questions.image_of], row_digests(texts), strict=True)
    return StoredInputs(
        rows=(decoded.rows, questions),
        digests=row_digests(np.concatenate(pair) for pair in pairs),
        good=good,
        original_size=decoded.original_size,
        quarantined=tuple(quarantined),
        notes=decoded.notes,
    )


def prepare(stored: StoredInputs, train: np.ndarray, features: tuple[str, ...]) -> Prepared:
    """Measure the training images, and take the words of the training questions."""
    images, questions = stored.rows
    shown = np.unique(questions.image_of[train])
    measured = IMAGE.prepare(replace(stored, rows=images), shown, ())
    words = fit_question_words(questions.texts[row] for row in train.tolist())
    rows = PicturedQuestions(
        images=images,
        image_of=questions.image_of,
        words=tuple(map(words.encode, questions.texts)),
        texts=questions.texts,
        kinds=questions.kinds,
    )
    return Prepared(rows, QuestionPreprocessing(image=measured.preprocessing, words=words))


def collate(rows: Sequence[PicturedQuestion]) -> dict[str, Tensor]:
    """The images, the words padded behind, and a mask that is True at words."""
    longest = max(len(row.words) for row in rows)
    words = np.full((len(rows), longest), PADDING, dtype=np.int64)
    for place, row in enumerate(rows):
        words[place, : len(row.words)] = row.words
    return {
        "images": torch.from_numpy(np.stack([row.image for row in rows])),
        "words": torch.from_numpy(words),
        "mask": torch.from_numpy(words != PADDING),
    }


def example(facts: DataFacts, size: int) -> Inputs:
    """Black images beside questions of the first word alone."""
    words = torch.ones(size, EXAMPLE_WORDS, dtype=torch.long)
    mask = torch.ones_like(words, dtype=torch.bool)
    return {"images": torch.zeros(size, *facts.input_shape), "words": words, "mask": mask}


def augmentation(
    settings: Any, preprocessing: QuestionPreprocessing, split: AugmentedSplit
) -> Augmentation:
    """The random changes of images alone."""
    images = split._replace(rows=split.rows.images)
    assert IMAGE.augmentation is not None
    change_images = IMAGE.augmentation(settings, preprocessing.image, images)

    def change(
        raw: dict[str, Tensor],
        chance: torch.Generator,
        *,
        positions: Tensor,
        epoch: int,
        part: Part,
    ) -> dict[str, Tensor]:
        changed = change_images(raw["images"], chance, positions=positions, epoch=epoch, part=part)
        return {**raw, "images": changed}

    return change


def read_source(preprocessing: QuestionPreprocessing, source: Path | bytes) -> Iterator[SourceRow]:
    """The questions that a file lists; one whose image cannot be decoded fails alone.

    Raises: DataError for a file without questions.
    """
    samples = None if isinstance(source, bytes) else question_file(source)
    if samples is None:
        raise DataError(
            f"{source if isinstance(source, Path) else 'the file'} lists no questions",
            fix='thalweg predict RUN IMAGE --question "what is it?", or a JSON or CSV of questions',
        )
    questions: Questions = samples.inputs
    for place, text in enumerate(questions.texts):
        name = questions.images.names[questions.image_of[place]]
        yield _row(preprocessing, questions.images.root / name, text, name=samples.names[place])


def read_object(preprocessing: QuestionPreprocessing, value: Any) -> Iterator[SourceRow]:
    """Questions in memory: a list of pairs (image, question), or of objects with both.

    An image is a path, or whatever a model of images takes.
    """
    return (row for entry in _entries(value) for row in _rows(preprocessing, *_pair(entry)))


def _entries(value: Any) -> list[Any]:
    is_list = isinstance(value, list) and all(isinstance(e, Mapping | tuple | list) for e in value)
    return value if is_list else [value]


def _pair(entry: Any) -> tuple[Any, str]:
    """The image and the question. Raises UsageError where they are not both there."""
    is_object = isinstance(entry, Mapping)
    pair = (entry.get("image"), entry.get("question")) if is_object else entry
    if isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[1], str):
        return pair[0], pair[1]
    raise UsageError(
        "a question comes with its image",
        seen=type(entry).__name__,
        fix='[(image, "what is it?")], or [{"image": …, "question": "what is it?"}]',
    )


def _rows(preprocessing: QuestionPreprocessing, image: Any, text: str) -> Iterator[SourceRow]:
    name = printable(text)
    if isinstance(image, str | Path):
        shown_name = f"{printable(str(image))}: {name}"
        yield _row(preprocessing, Path(image), text, name=shown_name)
        return
    assert IMAGE.read_object is not None
    words = preprocessing.words.encode(text)
    for shown in IMAGE.read_object(preprocessing.image, image):
        yield SourceRow(f"{shown.name}: {name}", PicturedQuestion(shown.raw, words), shown.error)


def _row(preprocessing: QuestionPreprocessing, path: Path, text: str, *, name: str) -> SourceRow:
    try:
        pixels_of_image = preprocessing.image.decode(path)
    except (DataError, OSError) as error:
        return SourceRow(name, None, str(error).splitlines()[0])
    return SourceRow(name, PicturedQuestion(pixels_of_image, preprocessing.words.encode(text)))


def partial_answers(
    rows: PicturedQuestions, targets: np.ndarray, *, train: np.ndarray, val: np.ndarray
) -> tuple[str, np.ndarray]:
    """Return the most frequent answers to the same words, whatever the image."""
    answers = answers_to_words_alone(rows.texts, targets, train=train, val=val)
    return "the question alone", answers


QUESTION = Modality(
    name=NAME,
    noun="question",
    feeds=frozenset({"questions"}),
    takes=lambda inputs: isinstance(inputs, Questions),
    read=read,
    prepare=prepare,
    collate=collate,
    input_shape=lambda row: (row.image.shape[2], *row.image.shape[:2]),
    restore=restore,
    read_source=read_source,
    read_object=read_object,
    recipe=question_answering,
    example=example,
    size=lambda facts: pixels(facts.input_shape),
    describe=lambda facts: {"Vocabulary": count(facts.vocabulary, "word")},
    picture=lambda raw: thumbnail(raw.image),
    augmentation=augmentation,
    augment_keys=AUGMENT_KEYS,
    facts=lambda prepared: {"vocabulary": len(prepared.preprocessing.words)},
    implied_keys=lambda facts: {"data.image_size": facts.input_shape[-1]},
    takes_questions=True,
    partial_answers=partial_answers,
    kinds=lambda rows: kinds_of(rows.texts, rows.kinds),
    suffixes=frozenset({".json", ".jsonl", ".csv", ".tsv"}),
)
