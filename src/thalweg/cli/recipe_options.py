"""Every key of a recipe as a command-line option, made from its declaration."""

import inspect
from collections.abc import Callable, Iterator
from inspect import Parameter as Argument
from typing import Annotated, Any

from cyclopts import Group, Parameter

from thalweg.errors import UsageError
from thalweg.recipes.key import Key
from thalweg.recipes.recipe import KEYS

FIRST = Group(
    "The ten that matter first",
    sort_key=1,
    help="Each has a default that is chosen from the data, the network and this machine.",
)
RECIPE = Group("The recipe as a file", sort_key=3)
_TEN = (
    *("model.name", "transfer.method", "budget.epochs", "optimizer.lr", "batch.size"),
    *("data.image_size", "data.target", "task.name", "device", "seed"),
)
_TITLES = {
    "data": "Data",
    "model": "Network",
    "transfer": "Pretrained weights",
    "task": "Task and loss",
    "optimizer": "Optimizer",
    "schedule": "Learning-rate schedule",
    "batch": "Batches",
    "augment": "Augmentation of images",
    "precision": "Precision and speed",
    "budget": "Length and checkpoints",
    "evaluation": "Validation",
    "watch": "Measurements",
    "devices": "Several devices",
}
_GROUPS = {
    part: Group(title, sort_key=4 + place) for place, (part, title) in enumerate(_TITLES.items())
}


def takes_recipe_keys(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace the `**recipe` of a command by one typed option per key, None if not given."""
    arguments = inspect.signature(command).parameters.values()
    own = [argument for argument in arguments if argument.kind is not Argument.VAR_KEYWORD]
    signature = inspect.Signature([*own, *_recipe_arguments()])
    command.__signature__ = signature  # type: ignore[attr-defined]
    return command


def recipe_edits(options: dict[str, Any]) -> dict[str, object]:
    """Dotted key → value, of the options that are not None."""
    names = {_identifier(name): name for name in KEYS}
    return {names[name]: _whole(value) for name, value in options.items() if value is not None}


def edits_with_path(options: dict[str, Any], path: str | None) -> dict[str, object]:
    """The edits of the options, and the data that were named first.

    Raises: UsageError where --data.path names other data.
    """
    edits = recipe_edits(options)
    if not path:
        return edits
    if edits.get("data.path", path) != path:
        raise UsageError(
            "the data are named twice, and differently",
            seen=f"{path} and --data.path {edits['data.path']}",
            fix="leave one out",
        )
    return edits | {"data.path": path}


def option(name: str) -> str:
    """The option of a recipe key in messages: the short one, if any."""
    if name == "data.path":
        return "PATH"
    short = KEYS[name].short
    return f"--{short.replace('_', '-')}" if short else f"--{name}"


def help_text(key: Key) -> str:
    """The meaning of a key, with its range."""
    return f"{key.meaning} [{key.range}]" if key.range else key.meaning


def group_of(name: str) -> Group:
    """The group of a key in the help: the ten that matter first, else that of its section."""
    return FIRST if name in _TEN else _GROUPS[name.partition(".")[0]]


def _place(name: str) -> int:
    return _TEN.index(name) if name in _TEN else len(_TEN)


def _recipe_arguments() -> Iterator[Argument]:
    for name, key in sorted(KEYS.items(), key=lambda pair: _place(pair[0])):
        names = [text for text in dict.fromkeys((option(name), f"--{name}")) if text[0] == "-"]
        off = f"--{'.no-'.join(name.rsplit('.', 1))}" if key.type is bool else ()
        described = Parameter(name=names, negative=off, help=help_text(key), group=group_of(name))
        # Not also int for settings by name: Cyclopts would round 0.95 to 1.
        kind = dict[str, float | bool | str] if key.is_table else key.type
        annotation = Annotated[kind | None, described]  # type: ignore[valid-type]  # made at run time
        yield Argument(
            _identifier(name), Argument.KEYWORD_ONLY, default=None, annotation=annotation
        )


def _whole(value: object) -> object:
    """Settings by name with whole numbers as int; anything else unchanged."""
    if not isinstance(value, dict):
        return value
    return {
        name: int(setting) if isinstance(setting, float) and setting.is_integer() else setting
        for name, setting in value.items()
    }


def _identifier(name: str) -> str:
    return name.replace(".", "_")
