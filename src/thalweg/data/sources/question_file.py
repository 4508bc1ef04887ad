"""Questions about images with their answers: JSON, JSON lines, or a table; a file, or a folder."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.data.images.formats import SUFFIXES, suffix_of
from thalweg.data.questions.pictured_questions import Questions
from thalweg.data.questions.question_list import (
    ANSWER_WORDS,
    IMAGE_WORDS,
    QUESTION_WORDS,
    Question,
    answers_in,
    check_answered,
    question_of,
    questions_in,
    with_answers,
)
from thalweg.data.samples import UNSPLIT, Files, Labels, Quarantined, Samples, split_called
from thalweg.data.sources.find_images import find_images, image_folders
from thalweg.data.sources.table_file import TABLE_SUFFIXES, table_file
from thalweg.errors import DataError, printable
from thalweg.files import parse_json, read_text
from thalweg.wording import count, some

LARGEST = 1 << 30  # bytes of a JSON file
MOST_FOLDERS = 20  # that are looked into for files of questions
MOST_FILES = 50
MOST_LISTED = 100_000  # entries of a folder that are looked at
MOST_ANSWERS = 3_000  # as in VQA's baselines: Antol et al. 2015, arXiv:1505.00468
LINES = (".jsonl", ".ndjson")
SAMPLED = 400  # questions, whose images tell how all are placed


@dataclass(frozen=True, slots=True)
class _Listing:
    """The questions of one file, and the images that they name."""

    path: Path
    questions: list[Question]
    images: list[str]  # relative to `root`, a path for each question; "" where there is none
    root: Path


def question_file(path: Path) -> Samples | None:
    """The questions that a file lists, or all files of a folder with "question" in their names.

    None for other contents. Questions without an answer or an image are left out, with a note.
    Raises: DataError where none is left, or JSON is damaged.
    """
    files = _question_files(path) if path.is_dir() else [path]
    outermost = path if path.is_dir() else path.parent
    listings = [listing for file in files if (listing := _listing(file, outermost)) is not None]
    return _samples(path, listings) if listings else None


def _question_files(folder: Path) -> list[Path]:
    """Files whose name says that they list questions, in the folders that such data sets have."""
    pending, files = [folder], []
    for _ in range(MOST_FOLDERS):
        if not pending:
            break
        try:
            with os.scandir(pending.pop(0)) as entries:
                listed = list(islice(entries, MOST_LISTED))
        except OSError:
            continue
        folders = [Path(entry.path) for entry in listed if entry.is_dir(follow_symlinks=False)]
        pending += sorted(folders)[:MOST_FOLDERS]
        named = [Path(entry.path) for entry in listed if "question" in entry.name.lower()]
        files += sorted(path for path in named if _is_readable(path))
    return files[:MOST_FILES]


def _is_readable(path: Path) -> bool:
    return path.suffix.lower() in (".json", *LINES) or path.name.lower().endswith(TABLE_SUFFIXES)


def _listing(path: Path, outermost: Path) -> _Listing | None:
    """The questions of a file, with their images below `outermost` or beside the file."""
    if not path.is_file() or not _is_readable(path):
        return None
    is_json = path.suffix.lower() in (".json", *LINES)
    questions = _from_json(path) if is_json else _from_table(path)
    if questions is None:
        return None
    check_answered(questions, name=str(path))
    root, images = _images(path, outermost, questions)
    return _Listing(path, questions, images, root)


def _from_json(path: Path) -> list[Question] | None:
    questions = questions_in(_parsed(path))
    if questions is None or any(question.answer for question in questions):
        return questions
    for beside in _annotations(path):
        answers = answers_in(_parsed(beside))
        if answers is not None and any(question.number in answers for question in questions):
            return with_answers(questions, answers)
    return questions


def _annotations(path: Path) -> list[Path]:
    """Files of annotations beside a file of questions; that of the same split comes first."""
    files = [
        beside
        for beside in sorted(path.parent.iterdir())
        if "annotation" in beside.name.lower() and beside.suffix.lower() == ".json"
    ]
    split = _split_of(path)
    return sorted(files, key=lambda beside: _split_of(beside) != split)


def _parsed(path: Path) -> Any:
    """The value of a JSON file, of JSON lines a list. Raises DataError where it is damaged."""
    try:
        text = read_text(path.resolve(), limit=LARGEST)
        if path.suffix.lower() in LINES:
            return [parse_json(line) for line in text.splitlines() if line.strip()]
        return parse_json(text)
    except (OSError, UnicodeDecodeError, ValueError, json.JSONDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as JSON", seen=str(error), fix="repair or leave out the file"
        ) from error


def _from_table(path: Path) -> list[Question] | None:
    """The questions of a table with columns of images, questions and answers; None without them."""
    table = table_file(path)
    if table is None:
        return None
    names = [name.strip().lower() for name in table.first]
    if not all(set(words) & set(names) for words in (QUESTION_WORDS, IMAGE_WORDS, ANSWER_WORDS)):
        return None
    rows = islice(table.rows(), 1, None)
    return [question_of(dict(zip(names, row.cells, strict=False))) for row in rows]


def _images(path: Path, outermost: Path, questions: Sequence[Question]) -> tuple[Path, list[str]]:
    """The folder that the images are relative to, and the path of each question's image.

    They lie below the file's own folder, below the one above it (CLEVR), or have the question's
    number at the end of their names (COCO_train2014_000000000042.jpg).
    """
    cells = [question.image for question in questions]
    sample = list(dict.fromkeys(cells))[:SAMPLED]
    for root in _roots(path, outermost):
        placement = find_images(root, sample)
        if placement is not None:
            return root, [placement.name(cell) for cell in cells]
        numbered = _numbered_images(root, _split_of(path))
        images = [numbered.get(_number(cell), "") for cell in cells]
        if any(images):
            return root, images
    raise DataError(
        f"the images of {path} are nowhere near it",
        seen=f"it names {some(sample)}",
        fix="put them into a folder images beside it",
    )


def _roots(path: Path, outermost: Path) -> list[Path]:
    """The folders whose images a file may mean, the nearest first; none outside the user's data."""
    is_apart = path.parent.name.lower() in ("questions", "annotations")
    farthest = path.parent.parent if is_apart and outermost == path.parent else outermost
    roots = [path.parent]
    while roots[-1] != farthest and farthest in roots[-1].parents:
        roots.append(roots[-1].parent)
    return roots


def _numbered_images(root: Path, split: int) -> dict[int, str]:
    """Images by the number at the end of their names; those of the file's own split come first."""
    named: dict[int, str] = {}
    folders = sorted(image_folders(root), key=lambda folder: split_called(folder) != split)
    for folder in folders:
        with os.scandir(root / folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MOST_LISTED))
        for name in names:
            number = _number(Path(name).stem)
            if number >= 0 and suffix_of(name) in SUFFIXES:
                named.setdefault(number, f"{folder}/{name}" if folder else name)
    return named


def _number(text: str) -> int:
    """The whole number at the end of a text; −1 for none."""
    digits = text[len(text.rstrip("0123456789")) :]
    return int(digits) if 0 < len(digits) < 19 else -1


def _split_of(path: Path) -> int:
    """The split that a file's name, or its folder's, tells."""
    words = [word for word in path.stem.replace("-", "_").split("_") if word]
    named = [split for word in words if (split := split_called(word)) != UNSPLIT]
    return named[0] if named else split_called(path.parent.name)


def _samples(path: Path, listings: Sequence[_Listing]) -> Samples:
    root = Path(os.path.commonpath([listing.root.resolve() for listing in listings]))
    places: dict[str, int] = {}
    rows: list[tuple[Question, int, int]] = []  # with the place of the image, and the split
    unanswered: list[str] = []
    imageless: list[Quarantined] = []
    for listing in listings:
        below = listing.root.resolve().relative_to(root).as_posix()
        split = _split_of(listing.path)
        for question, image in zip(listing.questions, listing.images, strict=True):
            name = f"{below}/{image}" if below != "." else image
            if not question.answer or not question.text:
                unanswered.append(question.text or question.image)
            elif not image:
                imageless.append(Quarantined(_name(question), "there is no such image"))
            else:
                rows.append((question, places.setdefault(name, len(places)), split))
    rows, rare = _frequent(rows)
    if not rows:
        raise DataError(f"{path} has no question with an image and an answer")
    answers: dict[str, int] = {}
    codes = [answers.setdefault(question.answer, len(answers)) for question, _, _ in rows]
    images = tuple(places)
    kinds = tuple(question.kind for question, _, _ in rows)
    return Samples(
        inputs=Questions(
            images=Files(path, root, images),
            image_of=np.array([place for _, place, _ in rows], dtype=np.int64),
            texts=tuple(question.text for question, _, _ in rows),
            kinds=kinds if any(kinds) else (),
        ),
        names=[_name(question) for question, _, _ in rows],
        labels=Labels(np.array(codes, dtype=np.int64), tuple(answers)),
        splits=np.array([split for _, _, split in rows], dtype=np.int8),
        label_place="the answers",
        quarantined=tuple(imageless),
        groups=[images[place] for _, place, _ in rows],
        group_place="their image",
        notes=_notes(listings, rows, unanswered=unanswered, rare=rare),
    )


def _frequent(
    rows: list[tuple[Question, int, int]],
) -> tuple[list[tuple[Question, int, int]], int]:
    """The questions with the most frequent answers, and the number of those left out."""
    counts: dict[str, int] = {}
    for question, _, _ in rows:
        counts[question.answer] = counts.get(question.answer, 0) + 1
    if len(counts) <= MOST_ANSWERS:
        return rows, 0
    chosen = set(sorted(counts, key=lambda answer: -counts[answer])[:MOST_ANSWERS])
    frequent = [row for row in rows if row[0].answer in chosen]
    return frequent, len(rows) - len(frequent)


def _notes(
    listings: Sequence[_Listing],
    rows: Sequence[tuple[Question, int, int]],
    *,
    unanswered: Sequence[str],
    rare: int,
) -> tuple[str, ...]:
    files = some([printable(listing.path.name) for listing in listings])
    images = len({place for _, place, _ in rows})
    notes = [f"{count(len(rows), 'question')} about {count(images, 'image')}: {files}"]
    if unanswered:
        notes.append(f"{count(len(unanswered), 'question')} without an answer: left out")
    if rare:
        notes.append(
            f"{count(rare, 'question')} with rarer answers than the {MOST_ANSWERS:,} most "
            "frequent: left out, so a score over all questions would be lower"
        )
    return tuple(notes)


def _name(question: Question) -> str:
    return printable(f"{question.image}: {question.text}")
