"""Read curves from a JSON file: Hugging Face's trainer_state.json, a Keras history, JSON lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import DataError
from thalweg.files import LARGEST_LOG, check_length

SUMMARY = "train_runtime"  # in the Trainer's summary row


def json_rows(path: Path) -> Iterator[dict[str, float]]:
    """The numbers of each logged row. Raises DataError where the file is no log."""
    try:
        check_length(path, LARGEST_LOG)
        text = path.read_text(encoding="utf-8-sig")
        content = _lines(text) if path.suffix == ".jsonl" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # also numbers of 5,000 digits
        raise DataError(
            f"{path} is not JSON", seen=str(error), fix="is the file complete?"
        ) from error
    for row in _rows(content, path):
        if SUMMARY not in row:
            yield {str(name): float(value) for name, value in row.items() if _is_number(value)}


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _rows(content: Any, path: Path) -> Sequence[Mapping[str, Any]]:
    """The rows, however they are wrapped."""
    if isinstance(content, dict):
        content = content.get("log_history", content.get("history", content))
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    if isinstance(content, dict) and content and all(isinstance(v, list) for v in content.values()):
        longest = max(map(len, content.values()))
        return [{n: v[i] for n, v in content.items() if i < len(v)} for i in range(longest)]
    raise DataError(
        f"{path} holds no curves",
        seen="neither log_history, nor rows, nor lists by name",
        fix="give a trainer_state.json, a list of rows, or a mapping of names to lists",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
