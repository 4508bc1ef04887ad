"""PyTorch's optimizers without the decorators that import its compiler.

The decorators tell torch.compile to skip a method. Calling one imports the compiler: 800 modules
and a second of each process, even where nothing is ever compiled.
"""

from functools import cache
from inspect import unwrap
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

OptimizerT = TypeVar("OptimizerT", bound=Optimizer)
_DECORATED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


@cache
def compiler_free(optimizer_class: type[OptimizerT]) -> type[OptimizerT]:
    """A subclass with the same updates, bit for bit, that does not import the compiler."""
    methods: dict[str, Any] = {n: unwrap(getattr(optimizer_class, n)) for n in _DECORATED}
    methods["step"] = torch.no_grad()(unwrap(optimizer_class.step))
    return type(optimizer_class.__name__, (optimizer_class,), methods)
