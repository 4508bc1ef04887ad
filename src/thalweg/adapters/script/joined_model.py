"""One module that stands for all that an optimizer trains, where the program has none itself."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class JoinedModel(nn.Module):
    """Modules that the program calls one after the other, and weights that are in no module.

    It is never called: what needs the model's output is not checked.
    """


def joined_model(modules: dict[str, nn.Module], weights: Iterable[Tensor]) -> JoinedModel:
    """Join modules by name, and the weights that are in none of them, as they are."""
    joined = JoinedModel()
    # Without `add_module`, whose hooks would report a module of the program's.
    joined._modules.update({name.replace(".", "_"): module for name, module in modules.items()})
    ids = {id(weight) for module in modules.values() for weight in module.parameters()}
    loose = [weight for weight in weights if id(weight) not in ids]
    table: Any = joined._parameters
    table.update({f"weight{number}": weight for number, weight in enumerate(loose)})
    return joined


def weights_of(optimizer: Optimizer) -> list[Tensor]:
    """All weights in an optimizer's groups."""
    return [
        weight
        for group in optimizer.param_groups
        for weight in group["params"]
        if isinstance(weight, torch.Tensor)
    ]
