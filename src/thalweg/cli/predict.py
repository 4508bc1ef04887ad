"""`thalweg predict RUN FILES…`: print one line per image or table row; a bad one fails alone.

Exit code 3 where one could not be read, whatever the others.
"""

import csv as csv_format
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import error_text, styled, table
from thalweg.errors import DataError, UsageError, printable, shell_word

if TYPE_CHECKING:
    from thalweg.data.modality import Modality, SourceRow
    from thalweg.inference.saved_model import Prediction, SavedModel

BATCH = 64  # samples decoded, and held in memory, at a time
RUNNERS_UP = 2  # classes that the table shows after the best one
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV injection


@dataclass(frozen=True, slots=True)
class Answer:
    """The prediction for one sample, or the error that prevented it."""

    source: str
    prediction: "Prediction | None"
    error: str = ""


def predict(
    run: Path,
    /,
    *files: str | Path,
    question: str = "",
    csv: bool = False,
    json: bool = False,
    beams: int = 1,
    device: str = "cpu",
) -> int:
    """Classify images or table rows, predict numbers, or write sequences, with a trained run.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    files: str | Path
        Image files, or folders of images at any depth. For a model of tables: CSV, Parquet or
        Arrow files; for one of texts: text files; for one of pairs of sequences: texts to write
        from, or files with one in each line; for one of questions: JSON or CSV files.
    question: str
        A question about the images, for a model that answers questions.
    csv: bool
        Print CSV: a row per prediction, a column per class.
    json: bool
        Print JSON.
    beams: int
        Of a model that writes sequences: search with so many candidates at each place.
    device: str
        Such as cpu or cuda.
    """
    if not files:
        raise UsageError("no file to predict", fix=f"thalweg predict {shell_word(run)} FILE…")
    if csv and json:
        raise UsageError("the answer is CSV or JSON", seen="--csv --json", fix="leave one out")
    from thalweg import api

    model = api.load(run, device=device)
    if question and not model.spec.modality.takes_questions:
        raise UsageError(
            "this model answers no questions",
            seen=f"its samples are {model.spec.modality.noun}s",
            fix="leave --question out",
        )
    noun = model.spec.modality.noun
    rows = chain.from_iterable(_rows(model, path, question=question) for path in files)
    answers = list(_answers(model, rows, beams=beams))
    if csv:
        _print_csv(answers, model.spec.class_names, noun=noun)
    elif json:
        print_json(predictions=[{noun: answer.source, **_fields(answer)} for answer in answers])
    else:
        print(_text(answers, noun=noun))
    failed = sum(answer.prediction is None for answer in answers)
    if failed and len(answers) > 1:
        some = f"{failed:,} of {len(answers):,} could not be read; the others are answered"
        text = some if failed < len(answers) else f"none of the {failed:,} could be read"
        print(styled("note:", "yellow", sys.stderr), text, file=sys.stderr)
    return DataError.exit_code if failed else 0


def _answers(model: "SavedModel", rows: "Iterator[SourceRow]", *, beams: int) -> Iterator[Answer]:
    while batch := list(islice(rows, BATCH)):
        raw = [row.raw for row in batch if row.raw is not None]
        predictions = iter(model.predict_raw(raw, beams=beams) if raw else ())
        for row in batch:
            prediction = None if row.raw is None else next(predictions)
            yield Answer(row.name, None if row.error else prediction, printable(row.error))


def _rows(model: "SavedModel", source: str | Path, *, question: str) -> "Iterator[SourceRow]":
    """Read the samples in a file, or in the files of a folder; what cannot be read fails alone.

    With a question the files are images, and the samples are the question about each.
    """
    from thalweg.data.modalities import MODALITIES

    modality, path = MODALITIES["image"] if question else model.spec.modality, Path(source)
    try:
        # A text is no path: "a//b" as a path would be a/b.
        files = [source] if modality.takes_text and not path.is_dir() else _files(path, modality)
    except (DataError, OSError) as error:
        yield _unread(path, error)
        return
    for file in files:
        try:
            yield from model.read_source([(file, question)] if question else file)
        except (DataError, OSError) as error:
            yield _unread(file, error)


def _unread(path: Path | str, error: DataError | OSError) -> "SourceRow":
    """A row without data, after a message on stderr."""
    from thalweg.data.modality import SourceRow

    if not isinstance(error, DataError):
        fix = "check that it exists and may be read"
        error = DataError(f"{path} cannot be read", seen=error.strerror or str(error), fix=fix)
    print(error_text(error), file=sys.stderr)
    return SourceRow(str(path), None, ": ".join(filter(None, (error.problem, error.seen))))


def _files(path: Path, modality: "Modality") -> "Sequence[Path | str]":
    """The file itself, or the files of the modality at any depth of a folder, in order.

    Raises: DataError for a folder without any.
    """
    if not path.is_dir() or not modality.suffixes:
        return [path]
    files = sorted(file for file in path.rglob("*") if _is_of(modality, file))
    if not files:
        noun = modality.noun
        raise DataError(f"there is no {noun} in {path}", fix=f"a folder that contains {noun}s")
    return files


def _is_of(modality: "Modality", path: Path) -> bool:
    return path.suffix.lower() in modality.suffixes and path.name[0] != "." and path.is_file()


def _text(answers: Sequence[Answer], *, noun: str) -> str:
    rows = [(answer.source, *_cells(answer)) for answer in answers]
    return table((noun, "prediction", "probability", "then"), rows)


def _cells(answer: Answer) -> tuple[str, str, str]:
    prediction = answer.prediction
    if prediction is None:
        return "(not read)", "", answer.error
    if not prediction.probabilities:
        return prediction.label, "", ""
    holding = [prediction.label] if prediction.labels is None else prediction.labels
    shares = [f"{prediction.probabilities[name]:.3f}" for name in holding]
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    others = [f"{name} {p:.3f}" for name, p in ranked if name not in holding]
    return prediction.label, ", ".join(shares), ", ".join(others[:RUNNERS_UP])


def _print_csv(answers: Sequence[Answer], classes: Sequence[str], *, noun: str) -> None:
    writer = csv_format.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(_defused, (noun, "prediction", "probability", "error", *classes)))
    writer.writerows(_csv_row(answer, classes) for answer in answers)


def _csv_row(answer: Answer, classes: Sequence[str]) -> Sequence[object]:
    prediction, source, error = answer.prediction, _defused(answer.source), _defused(answer.error)
    if prediction is None:
        return (source, "", "", error, *("" for _ in classes))
    if prediction.probabilities:
        shares = (prediction.probabilities[name] for name in classes)
        return (source, _defused(prediction.label), prediction.probability, "", *shares)
    if isnan(prediction.value):
        return (source, _defused(prediction.label), "", "")
    return (source, prediction.value, "", "")  # a number cannot be mistaken for a formula


def _defused(text: str) -> str:
    """The text with an apostrophe before a formula, so that a spreadsheet does not compute it."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _fields(answer: Answer) -> Mapping[str, object]:
    prediction = answer.prediction
    if prediction is None:
        return {"error": answer.error}
    if prediction.labels is not None:
        return {
            "labels": list(prediction.labels),
            "probability": prediction.probability,
            "probabilities": dict(prediction.probabilities),
        }
    if prediction.probabilities:
        return {
            "label": prediction.label,
            "probability": prediction.probability,
            "probabilities": dict(prediction.probabilities),
        }
    return {"label": prediction.label} if isnan(prediction.value) else {"value": prediction.value}
