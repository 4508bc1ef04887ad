"""Check the words of every command before they are converted: paths and sizes of numbers."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from cyclopts import App, Argument, ArgumentCollection

from thalweg.paths import check_path
from thalweg.recipes.key import check_magnitude

_PATHS = ("path", "data.path")  # of data, which may also be a word such as digits


def check_words(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raise UsageError for an empty path, a web address, or a number that is too large.

    Cyclopts calls this with the words of a command, by argument. As a `Path`, an empty word would
    be the current folder, and a web address would have lost a slash.
    """
    for argument in arguments:
        for token in argument.tokens:
            _check(argument, str(token.keyword or argument.name), token.value)


def _check(argument: Argument, name: str, word: str) -> None:
    kinds = set(_kinds(argument.hint))
    if Path in kinds or argument.name.lstrip("-").lower() in _PATHS:
        check_path(word, role=name)
    elif kinds & {int, float} and str not in kinds - _dictionary_kinds(argument.hint):
        check_magnitude(word, float if float in kinds else int, name=name)


def _kinds(hint: Any) -> Iterator[Any]:
    """The types in a hint: of a union, a list or a dictionary those of its parts."""
    parts = get_args(hint) if get_origin(hint) is not None else ()
    if not parts:
        yield hint
    for part in parts:
        yield from _kinds(part)


def _dictionary_kinds(hint: Any) -> set[Any]:
    """The types in a dictionary of settings, which may be texts as well as numbers."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return {kind for one in members if get_origin(one) is dict for kind in _kinds(one)}
