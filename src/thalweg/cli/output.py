"""Results on stdout: JSON with a version, where numbers that are not finite are null."""

import json
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.diagnosis import Diagnosis
    from thalweg.record import RunReader

SCHEMA = 1  # raised when a key changes its meaning or goes away


def print_json(**content: object) -> None:
    """One JSON object."""
    print(json.dumps(_finite({"schema": SCHEMA, **content}), indent=2, ensure_ascii=False))


def _finite(value: object) -> object:
    if isinstance(value, float) and not isfinite(value):
        return None  # JSON has no NaN; what writes one cannot be read by others
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


def print_run(reader: "RunReader", diagnosis: "Diagnosis", *, json: bool) -> None:
    """What a run came to and what is wrong with it, as text or as JSON."""
    from thalweg.report import render_json, render_text

    print((render_json if json else render_text)(reader, diagnosis))
