"""`thalweg predict RUN FILES…`: one line an image or a row of a table; a bad one fails alone."""

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
RUNNERS_UP = 2  # classes that the table names beside the best
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run it (OWASP, CSV injection)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of one image, or of one row, or why nothing is."""

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
    """Classify images or rows of a table, or predict values, with a trained run.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    files: Path
        Image files; of a folder, the images in it and below. For a model of tables: CSV files.
    csv: bool
        Print CSV: one row an answer, one column a class.
    json: bool
        Print JSON.
    device: str
        Such as cpu or cuda.
    """
    if not files:
        raise UsageError("no file was named", fix=f"thalweg predict {run} FILE…")
    from thalweg import api

    model = api.load(run, device=device)
    kind = "image" if model.spec.preprocessing.kind == "image" else "row"
    if kind == "image":
        answers = list(_answers(model, list(_files(files))))
    else:
        answers = [answer for file in files for answer in _row_answers(model, file)]
    if csv:
        _print_csv(answers, model.spec.class_names, kind=kind)
    elif json:
        print_json(predictions=[{kind: answer.source, **_as_json(answer)} for answer in answers])
    else:
        print(_as_table(answers, kind=kind))
    failed = sum(answer.prediction is None for answer in answers)
    return DataError.exit_code if failed == len(answers) else 0


def _row_answers(model: "SavedModel", file: Path) -> Iterator[Answer]:
    """One for each row of a table. Raises DataError for what is no table with the features."""
    import torch

    from thalweg.data.table_rows import table_rows

    found = table_rows(file, model.spec.preprocessing)
    predictions = model.predict_raw([torch.from_numpy(vector) for vector in found.vectors])
    for index, (name, prediction) in enumerate(zip(found.names, predictions, strict=True)):
        reason = found.reasons.get(index, "")
        yield Answer(f"{file}, {name}", None if reason else prediction, reason)


def _answers(model: "SavedModel", images: Sequence[Path]) -> Iterator[Answer]:
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        decoded = [_decoded(model, image) for image in some]
        good = [array for array in decoded if not isinstance(array, DataError)]
        predictions = iter(model.predict_raw(good) if good else ())
        for image, array in zip(some, decoded, strict=True):
            if isinstance(array, DataError):
                print(error_text(array), file=sys.stderr)
                yield Answer(str(image), None, f"{array.problem}: {array.seen}")
            else:
                yield Answer(str(image), next(predictions))


def _decoded(model: "SavedModel", image: Path) -> "Tensor | DataError":
    import torch

    try:
        return torch.tensor(model.spec.preprocessing.decode(image))
    except DataError as error:
        return error


def _files(named: Sequence[Path]) -> Iterator[Path]:
    """The files named, and the images below the folders named, each folder in order."""
    for path in named:
        if not path.is_dir():
            yield path
            continue
        found = sorted(below for below in path.rglob("*") if _is_image(below))
        if not found:
            raise DataError(f"there is no image in {path}", fix="name a folder with images in it")
        yield from found


def _is_image(path: Path) -> bool:
    from thalweg.data.images.formats import SUFFIXES

    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()


def _as_table(answers: Sequence[Answer], *, kind: str) -> str:
    rows = [(answer.source, *_cells(answer)) for answer in answers]
    return table((kind, "prediction", "probability", "then"), rows)


def _cells(answer: Answer) -> tuple[str, str, str]:
    found = answer.prediction
    if found is None:
        return "(not read)", "", ""
    if not found.probabilities:
        return found.label, "", ""
    ranked = sorted(found.probabilities.items(), key=lambda item: -item[1])
    others = [f"{name} {p:.3f}" for name, p in ranked[1 : 1 + RUNNERS_UP]]
    return found.label, f"{found.probability:.3f}", ", ".join(others)


def _print_csv(answers: Sequence[Answer], classes: Sequence[str], *, kind: str) -> None:
    writer = csv_format.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(_harmless, (kind, "prediction", "probability", "error", *classes)))
    writer.writerows(_csv_row(answer, classes) for answer in answers)


def _csv_row(answer: Answer, classes: Sequence[str]) -> Sequence[object]:
    found, image, error = answer.prediction, _harmless(answer.source), _harmless(answer.error)
    if found is None:
        return (image, "", "", error, *("" for _ in classes))
    if not found.probabilities:
        return (image, found.value, "", "")  # a number, and so no text to be taken for a formula
    shares = (found.probabilities[name] for name in classes)
    return (image, _harmless(found.label), found.probability, "", *shares)


def _harmless(text: str) -> str:
    """The text as a spreadsheet shows it: a leading apostrophe keeps it from being computed."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _as_json(answer: Answer) -> Mapping[str, object]:
    found = answer.prediction
    if found is None:
        return {"error": answer.error}
    if not found.probabilities:
        return {"value": found.value}
    return {
        "label": found.label,
        "probability": found.probability,
        "probabilities": dict(found.probabilities),
    }
