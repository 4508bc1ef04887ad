"""Check model.json, which anybody may have written, before anything is built from it."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from thalweg.record.check_facts import (
    LARGEST_COUNT,
    Check,
    is_count,
    is_number,
    is_text,
    list_of,
)

LARGEST_SETTING = 65_536  # of a network: wider and deeper than any that fits a machine


def _is_setting(value: Any) -> bool:
    """Return whether it can be a network's setting: a number, a text or a flag."""
    return isinstance(value, bool | str) or is_number(value)


def _is_changes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_setting, value.values()))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_shape(value: Any) -> bool:
    return list_of(is_count)(value) and prod(value) < LARGEST_COUNT


def _is_views(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {"views", "sure"}:
        return False
    sure = value.get("sure", 1.0)
    return value.get("views", "one") in ("one", "flip", "shift") and is_number(sure) and sure >= 0


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


VALUES: Mapping[str, Check] = {
    "model": is_text,
    "changes": _is_changes,
    "input_shape": _is_shape,
    "task": is_text,
    "num_classes": is_count,
    "target_mean": is_number,
    "target_std": is_number,
    "class_names": list_of(is_text),
    "preprocessing": _is_object,
    "views": _is_views,
    "label_rates": list_of(_is_share),
    "weights_sha256": is_text,
}


def check_values(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError that names the first value of another type than thalweg writes."""
    for name, check in VALUES.items():
        if name in manifest and not check(manifest[name]):
            raise ValueError(f"{name} cannot be {str(manifest[name])[:60]!r}")
    names, classes = manifest.get("class_names") or (), manifest.get("num_classes", 0)
    if names and len(names) != classes:
        raise ValueError(f"there are {len(names)} class_names for {classes} classes")


def check_sizes(manifest: Mapping[str, Any], weights: Path) -> None:
    """Raises ValueError where the network would be larger than the weights that are there.

    Each width, depth and class of a network has weights of its own.
    """
    most = min(LARGEST_SETTING, _weights_in(weights))
    for name, size in _sizes(manifest):
        if size > most:
            raise ValueError(f"{name} cannot be {size}: the file has weights for at most {most}")


def _sizes(manifest: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    yield "num_classes", manifest.get("num_classes", 0)
    for size in manifest.get("input_shape", ()):
        yield "input_shape", size
    for name, value in manifest.get("changes", {}).items():
        if isinstance(value, int):
            yield name, value


def _weights_in(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
