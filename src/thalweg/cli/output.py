"""Results on stdout: as text for people, as JSON with a version for programs."""

import json
import sys
from typing import TYPE_CHECKING

from thalweg.cli.terminal import uses_color

if TYPE_CHECKING:
    from thalweg.diagnosis import Diagnosis
    from thalweg.record import RunReader

SCHEMA = 1  # raised when a key changes its meaning or goes away


def print_json(**content: object) -> None:
    """One JSON object, null for every number that is not finite."""
    from thalweg.record.schema import finite

    print(json.dumps(finite({"schema": SCHEMA, **content}), indent=2, ensure_ascii=False))


def print_run(reader: "RunReader", diagnosis: "Diagnosis", *, json: bool) -> None:
    """What a run came to and what is wrong with it, as text or as JSON."""
    from thalweg.report import render_json, render_text

    if json:
        print(render_json(reader, diagnosis))
    else:
        print(render_text(reader, diagnosis, color=uses_color(sys.stdout)))
