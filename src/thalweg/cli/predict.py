"""`thalweg predict RUN FILES…`: print one line per image or table row; a bad one fails alone."""

import csv as csv_format
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import error_text, table
from thalweg.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from thalweg.inference.saved_model import Prediction, SavedModel

BATCH = 64  # images decoded, and held in memory, at a time
RUNNERS_UP = 2  # classes that the table shows after the best one
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV injection


@dataclass(frozen=True, slots=True)
class Answer:
    """The prediction for one image or row, or the error that prevented it."""

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
    kind = "image" if model.spec.preprocessing.kind == "image" else "row"
    if kind == "image":
        answers = list(_image_answers(model, list(_image_files(files))))
    else:
        answers = [answer for file in files for answer in _row_answers(model, file)]
    if csv:
        _print_csv(answers, model.spec.class_names, kind=kind)
    elif json:
        print_json(predictions=[{kind: answer.source, **_fields(answer)} for answer in answers])
    else:
        print(_text(answers, kind=kind))
    failed = sum(answer.prediction is None for answer in answers)
    return DataError.exit_code if failed == len(answers) else 0


def _row_answers(model: "SavedModel", file: Path) -> Iterator[Answer]:
    """Predict each row of a table. Raises: DataError if it lacks the features."""
    import torch

    from thalweg.data.table_rows import table_rows

    rows = table_rows(file, model.spec.preprocessing)
    predictions = model.predict_raw([torch.from_numpy(vector) for vector in rows.vectors])
    for index, (name, prediction) in enumerate(zip(rows.names, predictions, strict=True)):
        error = rows.reasons.get(index, "")
        yield Answer(f"{file}, {name}", None if error else prediction, error)


def _image_answers(model: "SavedModel", images: Sequence[Path]) -> Iterator[Answer]:
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        decoded = [_decode(model, image) for image in batch]
        pixels = [entry for entry in decoded if not isinstance(entry, DataError)]
        predictions = iter(model.predict_raw(pixels) if pixels else ())
        for image, entry in zip(batch, decoded, strict=True):
            if isinstance(entry, DataError):
                print(error_text(entry), file=sys.stderr)
                yield Answer(str(image), None, f"{entry.problem}: {entry.seen}")
            else:
                yield Answer(str(image), next(predictions))


def _decode(model: "SavedModel", image: Path) -> "Tensor | DataError":
    import torch

    try:
        return torch.tensor(model.spec.preprocessing.decode(image))
    except DataError as error:
        return error


def _image_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and the images at any depth of the folders, each folder in order."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        images = sorted(file for file in path.rglob("*") if _is_image(file))
        if not images:
            raise DataError(f"there is no image in {path}", fix="a folder that contains images")
        yield from images


def _is_image(path: Path) -> bool:
    from thalweg.data.images.formats import SUFFIXES

    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()


def _text(answers: Sequence[Answer], *, kind: str) -> str:
    rows = [(answer.source, *_cells(answer)) for answer in answers]
    return table((kind, "prediction", "probability", "then"), rows)


def _cells(answer: Answer) -> tuple[str, str, str]:
    prediction = answer.prediction
    if prediction is None:
        return "(not read)", "", ""
    if not prediction.probabilities:
        return prediction.label, "", ""
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    others = [f"{name} {p:.3f}" for name, p in ranked[1 : 1 + RUNNERS_UP]]
    return prediction.label, f"{prediction.probability:.3f}", ", ".join(others)


def _print_csv(answers: Sequence[Answer], classes: Sequence[str], *, kind: str) -> None:
    writer = csv_format.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(_defused, (kind, "prediction", "probability", "error", *classes)))
    writer.writerows(_csv_row(answer, classes) for answer in answers)


def _csv_row(answer: Answer, classes: Sequence[str]) -> Sequence[object]:
    prediction, source, error = answer.prediction, _defused(answer.source), _defused(answer.error)
    if prediction is None:
        return (source, "", "", error, *("" for _ in classes))
    if not prediction.probabilities:
        return (source, prediction.value, "", "")  # a number cannot be mistaken for a formula
    shares = (prediction.probabilities[name] for name in classes)
    return (source, _defused(prediction.label), prediction.probability, "", *shares)


def _defused(text: str) -> str:
    """The text with an apostrophe before a formula, so that a spreadsheet does not compute it."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _fields(answer: Answer) -> Mapping[str, object]:
    prediction = answer.prediction
    if prediction is None:
        return {"error": answer.error}
    if not prediction.probabilities:
        return {"value": prediction.value}
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": dict(prediction.probabilities),
    }
