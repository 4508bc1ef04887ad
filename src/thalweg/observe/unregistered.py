"""Find who owns a weight that is no parameter of the watched model."""

import gc
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

DEPTH = 3  # of lists within lists
MOST_ITEMS = 256  # of a list that is searched
REGISTERED = {"_parameters", "_modules", "_buffers"}


def hidden_weights(model: nn.Module) -> dict[int, str]:
    """Weights that the model's lists, dictionaries and plain attributes hold: id → name."""
    registered = {id(weight) for weight in model.parameters()}
    names: dict[int, str] = {}
    for prefix, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute in REGISTERED:
                continue
            place = f"{prefix}.{attribute}" if prefix else attribute
            for name, weight in _weights_in(value, place, DEPTH):
                if id(weight) not in registered:
                    names.setdefault(id(weight), name)
    return names


def _weights_in(value: Any, place: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, nn.Module):
        yield from ((f"{place}.{name}", weight) for name, weight in value.named_parameters())
    elif depth and isinstance(value, list | tuple | dict) and len(value) <= MOST_ITEMS:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _weights_in(item, f"{place}[{key!r}]", depth - 1)


def is_made_in_forward(candidate: Tensor) -> bool:
    """True if no module or object holds the parameter: the graph alone keeps it alive."""
    tables = [holder for holder in gc.get_referrers(candidate) if isinstance(holder, dict)]
    # A type checker puts the arguments of this very call into a table too.
    return all("candidate" in table for table in tables)


def weights_of_all_optimizers() -> set[int]:
    """The ids of the weights that any optimizer of this process holds; a search of its objects."""
    groups = [group for optimizer in live_objects(Optimizer) for group in optimizer.param_groups]
    return {id(weight) for group in groups for weight in group["params"]}


def live_objects(*kinds: type[Any]) -> list[Any]:
    """Every object of these classes that is alive in this process.

    Cost: some ten milliseconds. An object refers to its class, so that the collector finds it. Its
    type is asked, not the object: a proxy may act when touched.
    """
    classes = set[type[Any]](kinds)
    waiting = list(kinds)
    while waiting:
        new = set(type.__subclasses__(waiting.pop())) - classes
        waiting += new
        classes |= new
    return [one for one in gc.get_referrers(*classes) if type(one) in classes]
