"""Every key of a recipe as an option, made from the recipe itself, so that none can be missing."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from inspect import Parameter as Argument
from typing import Annotated, Any, get_origin, get_type_hints

from cyclopts import Group, Parameter

from thalweg.recipes import recipe
from thalweg.recipes.recipe import SHORT_KEYS, Recipe

_SHORT = {key: f"--{name.replace('_', '-')}" for name, key in SHORT_KEYS.items()}
_SHORT["data.path"] = "PATH"
_COMMENTED = re.compile(r"^    (\w+): [^#\n]*# (.+)$", re.MULTILINE)
RECIPE = Group("Recipe", sort_key=2, help="What is not given is chosen from the data.")


def takes_recipe_keys(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with its `**recipe` spelled out: one typed option a key, None if not given."""
    kept = [
        argument
        for argument in inspect.signature(command).parameters.values()
        if argument.kind is not Argument.VAR_KEYWORD
    ]
    signature = inspect.Signature([*kept, *_arguments()])
    command.__signature__ = signature  # type: ignore[attr-defined]
    return command


def given(options: dict[str, Any]) -> dict[str, object]:
    """Dotted key → value, of the options that were given."""
    names = {_identifier(key): key for key, _ in _typed_keys(Recipe, "")}
    return {names[name]: _whole(value) for name, value in options.items() if value is not None}


def _whole(value: object) -> object:
    """Settings by name with whole numbers as such; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {
        name: int(one) if isinstance(one, float) and one.is_integer() else one
        for name, one in value.items()
    }


def meanings() -> dict[str, str]:
    """Dotted key → what it means: the comment beside it in the recipe's source."""
    try:
        source = inspect.getsource(recipe)
    except OSError:  # installed without sources: options are then listed without their meaning
        return {}
    found: dict[str, str] = {}
    for block in re.split(r"^class ", source, flags=re.MULTILINE)[1:]:
        owner = block.partition("Recipe:")[0].lower()
        for name, meaning in _COMMENTED.findall(block):
            found[f"{owner}.{name}".lstrip(".")] = meaning
    return found


def option(key: str) -> str:
    """What to call it in a message: the short option where there is one."""
    return _SHORT.get(key, f"--{key}")


def _arguments() -> Iterator[Argument]:
    about = meanings()
    for key, kind in _typed_keys(Recipe, ""):
        names = dict.fromkeys(name for name in (option(key), f"--{key}") if name[0] == "-")
        off = f"--{'.no-'.join(key.rsplit('.', 1))}" if kind is bool else ()
        described = Parameter(name=[*names], negative=off, help=about.get(key, ""), group=RECIPE)
        annotation = Annotated[kind | None, described]  # type: ignore[valid-type]  # made at run time
        yield Argument(_identifier(key), Argument.KEYWORD_ONLY, default=None, annotation=annotation)


def _typed_keys(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(node)
    for part in fields(node):
        kind = hints[part.name]
        if is_dataclass(kind):
            yield from _typed_keys(kind, f"{prefix}{part.name}.")
        elif isinstance(get_origin(kind), type):
            # Not also int: Cyclopts would round 0.95 to 1.
            yield prefix + part.name, dict[str, float | bool | str]
        else:
            yield prefix + part.name, kind


def _identifier(key: str) -> str:
    return key.replace(".", "_")
