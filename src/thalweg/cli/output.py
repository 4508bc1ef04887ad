"""Print results on stdout: text for people, JSON with a version for programs."""

import json
import sys
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.terminal import uses_color
from thalweg.errors import UsageError, printable
from thalweg.paths import unwritable

if TYPE_CHECKING:
    from thalweg.diagnosis import Diagnosis
    from thalweg.record import RunReader
    from thalweg.record.logs import TrainingLog

SCHEMA = 1  # raised when a key changes its meaning or goes away


def write_page(path: Path, page: str) -> None:
    """Write a page to a file that the user named, also a device.

    Raises: UsageError for a folder, RunError where the disk does not take it.
    """
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder", seen="a file is to be written", fix=f"{path / 'report.html'}"
        )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error


def print_json(**content: object) -> None:
    """Print one JSON object, with null for every number that is not finite."""
    from thalweg.record.schema import json_safe

    print(json.dumps(json_safe({"schema": SCHEMA, **content}), indent=2, ensure_ascii=False))


def print_run(reader: "RunReader", diagnosis: "Diagnosis", *, json: bool) -> None:
    """Print the report of a run, as text or as JSON."""
    from thalweg.report import render_json, render_text

    if json:
        print(render_json(reader, diagnosis))
    else:
        print(render_text(reader, diagnosis, color=uses_color(sys.stdout)))


def print_log(log: "TrainingLog", diagnosis: "Diagnosis", *, json: bool) -> None:
    """Print the columns read from another trainer's log, and its diagnosis."""
    from thalweg.record.logs.training_log import NAMES
    from thalweg.wording import some

    if json:
        print_json(
            path=str(log.path),
            columns=dict(log.columns),
            unread=list(log.unread),
            **loads(diagnosis.to_json()),
        )
        return
    columns = [f"{name} ← {column}" for column, name in log.columns.items()]
    lines = [f"{log.path}: {', '.join(columns)}"]
    if log.unread:
        lines.append(f"not read: {some(list(log.unread), most=12)}; --column names one")
    if not diagnosis.has_result:
        lines.append(f"looked for: {', '.join(NAMES)}; --column names one")
    print(printable("\n".join([*lines, "", str(diagnosis)]), keep="\n"))
