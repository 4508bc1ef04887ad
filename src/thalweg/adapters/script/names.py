"""Name the models of a program: by their class, or by the variable that holds them."""

import sys
from types import FrameType

from torch import nn

WRAPPERS = ("module", "_orig_mod")


def model_name(model: nn.Module, used_names: set[str]) -> str:
    """A name for the model, none of those in use: its class, or its variable if that is torch's."""
    inner = model
    while (wrapped := _wrapped(inner)) is not None:
        inner = wrapped
    name = type(inner).__name__
    if type(inner).__module__.startswith("torch."):
        name = _variable(model) or _variable(inner) or name
    numbered = (f"{name}-{number}" for number in range(2, len(used_names) + 3))
    return next(one for one in (name, *numbered) if one not in used_names)


def _wrapped(module: nn.Module) -> nn.Module | None:
    modules = vars(module).get("_modules") or {}
    alone = len(modules) == 1 and type(module).__module__.startswith("torch.")
    name = next(iter(modules), "")
    return modules[name] if alone and name in WRAPPERS else None


def _variable(model: nn.Module) -> str:
    """The variable, or the attribute of `self`, that holds the model in the calling functions."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith(("thalweg.", "torch.")):
            variables = dict(frame.f_locals)
            owner = variables.pop("self", None)
            attributes = getattr(owner, "__dict__", {})
            children = attributes.get("_modules") or {}
            for table in (variables, attributes, children):
                for name, value in list(table.items()):
                    if value is model and not name.startswith("_"):
                        return str(name)
        frame = frame.f_back
    return ""
