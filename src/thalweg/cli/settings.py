"""Settings of a command and their origins: command line > environment > file > default."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg.cli.recipe_options import option
from thalweg.errors import UsageError
from thalweg.recipes.key import Key
from thalweg.recipes.old_names import OLD_NAMES
from thalweg.recipes.recipe import KEYS, Recipe, edits_from_toml
from thalweg.recipes.similar_keys import keys_meant
from thalweg.registry import unknown_name

_PREFIX = "THALWEG_"
# Read where they are used: they describe the machine or a benchmark, not a run.
_OF_BENCHMARKS = (
    *("DATA", "PEERS", "QUERIES", "REPEATS", "ROWS", "RUNGS", "SEEDS", "SERIES", "SPLITS"),
    *("TABLES", "TEXTS", "WORDS"),
)
_NO_RECIPE_KEYS = ("THALWEG_CACHE", *(_PREFIX + name for name in _OF_BENCHMARKS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe keys that the user set; all others are chosen from the data."""

    edits: Mapping[str, object]  # dotted recipe key → value
    origins: Mapping[str, str]  # the same keys → origin in words, such as "command line: --lr"


def gather_settings(
    options: Mapping[str, object], environment: Mapping[str, str], config: Path | None
) -> Settings:
    """Merge options, environment and file. Raises: UsageError for an unknown key or a bad value."""
    from_file = edits_from_toml(config) if config else {}
    from_environment = _from_environment(environment)
    origins = dict.fromkeys(from_file, f"file: {config}")
    origins |= {key: f"environment: {environment_variable(key)}" for key in from_environment}
    origins |= {key: f"command line: {option(key)}" for key in options}
    edits = {**from_file, **from_environment, **options}
    return Settings(edits=edits, origins=origins)


def environment_variable(key: str) -> str:
    """The environment variable of a recipe key."""
    return _PREFIX + key.upper().replace(".", "_")


def annotated_toml(recipe: Recipe, origins: Mapping[str, str]) -> str:
    """The recipe as TOML for --config, with the origin of each value as a comment."""
    lines, prefix = [], ""
    for line in recipe.to_toml().splitlines():
        if line.startswith("["):
            prefix = line.strip("[]") + "."
        name, equals, _ = line.partition(" = ")
        lines.append(f"{line}  # {origins.get(prefix + name, 'default')}" if equals else line)
    return "\n".join(lines)


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    names = {environment_variable(name): name for name in KEYS}
    edits: dict[str, object] = {}
    for name, text in environment.items():
        if not name.startswith(_PREFIX) or name in _NO_RECIPE_KEYS:
            continue
        if name not in names:
            raise _unknown_variable(name, [*names, "THALWEG_CACHE"])
        edits[names[name]] = _parse(name, KEYS[names[name]], text)
    return edits


def _unknown_variable(name: str, variables: Sequence[str]) -> UsageError:
    for old, new in OLD_NAMES.items():
        if name == environment_variable(old):
            return UsageError(f"{name} has a new name", seen=name, fix=environment_variable(new))
    keys = keys_meant(name.removeprefix(_PREFIX), KEYS)
    close = [environment_variable(key) for key in keys]
    return unknown_name("setting in the environment", name, variables, close=close)


def _parse(name: str, key: Key, text: str) -> object:
    try:
        return key.parse(_parse_table(name, text) if key.is_table else text)
    except UsageError as error:
        raise type(error)(f"{name}: {error.problem}", seen=error.seen, fix=error.fix) from error


def _parse_table(name: str, text: str) -> object:
    try:
        return tomllib.loads(f"table = {text}")["table"]
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} cannot be read as a table", seen=text, fix='such as { stem = "small" }'
        ) from error
