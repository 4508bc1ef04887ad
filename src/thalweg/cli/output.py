"""Results on stdout: as text for people, as JSON with a version for programs."""

import json
import sys
from json import loads
from typing import TYPE_CHECKING

from thalweg.cli.terminal import uses_color
from thalweg.errors import printable

if TYPE_CHECKING:
    from thalweg.diagnosis import Diagnosis
    from thalweg.record import RunReader
    from thalweg.record.logs import TrainingLog

SCHEMA = 1  # raised when a key changes its meaning or goes away


def print_json(**content: object) -> None:
    """One JSON object, null for every number that is not finite."""
    from thalweg.record.schema import json_safe

    print(json.dumps(json_safe({"schema": SCHEMA, **content}), indent=2, ensure_ascii=False))


def print_run(reader: "RunReader", diagnosis: "Diagnosis", *, json: bool) -> None:
    """What a run came to and what is wrong with it, as text or as JSON."""
    from thalweg.report import render_json, render_text

    if json:
        print(render_json(reader, diagnosis))
    else:
        print(render_text(reader, diagnosis, color=uses_color(sys.stdout)))


def print_curves(recording: "TrainingLog", diagnosis: "Diagnosis", *, json: bool) -> None:
    """What was read of somebody's curves, and what is wrong with them."""
    from thalweg.wording import some

    read = [f"{name} ← {column}" for column, name in recording.columns.items()]
    if json:
        print_json(
            path=str(recording.path),
            columns=dict(recording.columns),
            unread=list(recording.unread),
            **loads(diagnosis.to_json()),
        )
        return
    lines = [f"{recording.path}: {', '.join(read) or 'nothing that its names tell'}"]
    if recording.unread:
        lines.append(f"not read: {some(list(recording.unread), most=12)}; --column names one")
    print(printable("\n".join([*lines, "", str(diagnosis)]), keep="\n"))
