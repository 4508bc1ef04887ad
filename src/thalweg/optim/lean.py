"""PyTorch's optimizers without the marks that keep its compiler from looking into them.

A mark loads the compiler to tell it so: 800 modules and a second of each process, also where
nothing is ever compiled.
"""

from functools import cache
from inspect import unwrap
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=Optimizer)
_MARKED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


@cache
def lean(kind: type[Kind]) -> type[Kind]:
    """The same optimizer, number for number, which does not load the compiler."""
    plain: dict[str, Any] = {name: unwrap(getattr(kind, name)) for name in _MARKED}
    plain["step"] = torch.no_grad()(unwrap(kind.step))
    return type(kind.__name__, (kind,), plain)
