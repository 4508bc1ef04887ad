"""Check the arguments of the public functions by their annotations, before any work."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

from thalweg.errors import UsageError
from thalweg.paths import as_path
from thalweg.recipes.key import check_magnitude
from thalweg.recipes.recipe import KEYS

P = ParamSpec("P")
R = TypeVar("R")

# Numbers of a recipe may also be texts, as in the environment; a device may be one of torch.
_CHECKED_ELSEWHERE = {"device"} | {
    key.short for key in KEYS.values() if key.short and key.type in (int, float)
}
# Annotation → the types that are taken, the same in words, and an example.
_KINDS: dict[Any, tuple[tuple[type, ...], str, str]] = {
    int: ((Integral,), "a whole number", "10"),
    float: ((Real,), "a number", "0.5"),
    str: ((str,), "a text", '"text"'),
    bool: ((bool,), "True or False", "True"),
    Mapping: ((Mapping,), "a mapping of names to values", '{"optimizer.lr": 0.1}'),
    Sequence: ((list, tuple), "a list of names", '["knn", "linear"]'),
}


def check_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function: a value of a wrong type is a UsageError that names it.

    Paths are checked as by `as_path`, numbers also for their size.
    """
    signature = inspect.signature(function)
    annotations = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if name not in _CHECKED_ELSEWHERE or parameter.default is not None
    }

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            values = signature.bind(*args, **kwargs).arguments
        except TypeError:  # an argument that the function does not have, or too few
            return function(*args, **kwargs)
        for name, value in values.items():
            if name in annotations:
                _check(name, value, annotations[name])
        return function(*args, **kwargs)

    return call


def check_num_classes(num_classes: int | None) -> None:
    """Raise UsageError for fewer classes than a classifier can have."""
    if num_classes is not None and num_classes < 2:
        raise UsageError(
            "a classifier has two classes or more",
            seen=f"num_classes={num_classes}",
            fix="num_classes=2, …; or leave it out",
        )


def _check(name: str, value: object, annotation: Any) -> None:
    members = _members(annotation)
    if isinstance(value, NoneType) and NoneType in members:
        return
    if Path in members:
        if not (isinstance(value, str) and value == "" and name == "path"):  # may be in the edits
            as_path(value, role=name)
        return
    kinds = [_KINDS[member] for member in members if member in _KINDS]
    others = [member for member in members if member not in _KINDS and member is not NoneType]
    if not kinds or others:
        return
    types, words, example = kinds[0]
    is_flag_as_number = isinstance(value, bool) and bool not in members
    if not isinstance(value, types) or is_flag_as_number:
        raise UsageError(
            f"{name} must be {words}",
            seen=f"{type(value).__name__}: {repr(value)[:80]}",
            fix=f"such as {name}={example}",
        )
    check_magnitude(value, int if int in members else float, name=name)


def _members(annotation: Any) -> list[Any]:
    """The types that an annotation joins, without their parameters."""
    origin = get_origin(annotation)
    parts = get_args(annotation) if origin in (Union, UnionType) else (annotation,)
    return [get_origin(part) or part for part in parts]
