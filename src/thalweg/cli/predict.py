"""`thalweg predict RUN FILES…`: print one line per image or table row; a bad one fails alone."""

import csv as csv_format
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import error_text, table
from thalweg.errors import DataError, UsageError

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
    *files: Path,
    csv: bool = False,
    json: bool = False,
    device: str = "cpu",
) -> int:
    """Classify images or table rows, or predict numbers, with a trained run.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    files: Path
        Image files, or folders of images at any depth. For a model of tables: CSV files.
    csv: bool
        Print CSV: a row per prediction, a column per class.
    json: bool
        Print JSON.
    device: str
        Such as cpu or cuda.
    """
    if not files:
        raise UsageError("no file to predict", fix=f"thalweg predict {run} FILE…")
    from thalweg import api

    model = api.load(run, device=device)
    noun = model.spec.modality.noun
    answers = list(_answers(model, _files(files, model.spec.modality)))
    if csv:
        _print_csv(answers, model.spec.class_names, noun=noun)
    elif json:
        print_json(predictions=[{noun: answer.source, **_fields(answer)} for answer in answers])
    else:
        print(_text(answers, noun=noun))
    failed = sum(answer.prediction is None for answer in answers)
    return DataError.exit_code if failed == len(answers) else 0


def _answers(model: "SavedModel", files: Iterable[Path]) -> Iterator[Answer]:
    rows = chain.from_iterable(_rows(model, file) for file in files)
    while batch := list(islice(rows, BATCH)):
        raw = [row.raw for row in batch if row.raw is not None]
        predictions = iter(model.predict_raw(raw) if raw else ())
        for row in batch:
            prediction = None if row.raw is None else next(predictions)
            yield Answer(row.name, None if row.error else prediction, row.error)


def _rows(model: "SavedModel", file: Path) -> "Iterator[SourceRow]":
    """Read the samples in a file; one without data, and a message, if it cannot be read."""
    from thalweg.data.modality import SourceRow

    try:
        yield from model.read_source(file)
    except DataError as error:
        print(error_text(error), file=sys.stderr)
        yield SourceRow(str(file), None, f"{error.problem}: {error.seen}")


def _files(paths: Sequence[Path], modality: "Modality") -> Iterator[Path]:
    """The files, and those of the modality at any depth of the folders, each folder in order."""
    for path in paths:
        if not path.is_dir() or not modality.suffixes:
            yield path
            continue
        files = sorted(file for file in path.rglob("*") if _is_of(modality, file))
        if not files:
            noun = modality.noun
            raise DataError(f"there is no {noun} in {path}", fix=f"a folder that contains {noun}s")
        yield from files


def _is_of(modality: "Modality", path: Path) -> bool:
    return path.suffix.lower() in modality.suffixes and path.name[0] != "." and path.is_file()


def _text(answers: Sequence[Answer], *, noun: str) -> str:
    rows = [(answer.source, *_cells(answer)) for answer in answers]
    return table((noun, "prediction", "probability", "then"), rows)


def _cells(answer: Answer) -> tuple[str, str, str]:
    prediction = answer.prediction
    if prediction is None:
        return "(not read)", "", ""
    if not prediction.probabilities:
        return prediction.label, "", ""
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    others = [f"{name} {p:.3f}" for name, p in ranked[1 : 1 + RUNNERS_UP]]
    return prediction.label, f"{prediction.probability:.3f}", ", ".join(others)


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
    if prediction.probabilities:
        return {
            "label": prediction.label,
            "probability": prediction.probability,
            "probabilities": dict(prediction.probabilities),
        }
    return {"label": prediction.label} if isnan(prediction.value) else {"value": prediction.value}
