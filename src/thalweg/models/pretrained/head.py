"""A network seen as features and a linear head on them: what transfer keeps, and what it fits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import UsageError


def head_of(model: nn.Module, *, outputs: int) -> tuple[str, nn.Linear]:
    """The linear layer that makes the outputs, the last one of that size, and its name.

    Raises: UsageError for a network that ends in something else.
    """
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == outputs
    ]
    if not found:
        raise UsageError(
            "the network does not end in a linear layer, so that none can be fitted to features",
            seen=f"{type(model).__name__}: no nn.Linear with {outputs} outputs",
            fix="another pretrained network, or transfer.method = none",
        )
    return found[-1]


class Features(nn.Module):
    """What the head of `model` reads, [n, d]: the model itself runs, and its head is listened to.

    So it holds for any network, whatever pools and flattens before the head.
    """

    def __init__(self, model: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.model = model
        self._head = [head]  # in a list: it is a part of the model already

    @property
    def dim(self) -> int:
        return self._head[0].in_features

    def forward(self, images: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d"]:
        seen: list[Tensor] = []
        with _heard(self._head[0], seen):
            self.model(images)
        return seen[-1].flatten(1).float()


@contextmanager
def _heard(head: nn.Linear, seen: list[Tensor]) -> Iterator[None]:
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def last_third(model: nn.Module) -> set[str]:
    """Names of the weights of the last third of the layers, in the order of their declaration."""
    names = [name for name, _ in model.named_parameters()]
    layers = [name for name, weight in model.named_parameters() if weight.ndim >= 2]
    return set(names[names.index(layers[2 * len(layers) // 3]) :])


def freeze(model: nn.Module, trained: set[str]) -> None:
    """Leave gradients to the weights named; modules without any stay in evaluation mode for good.

    A frozen batch normalisation that went on averaging would not be frozen.
    """
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in trained)
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()
            module.train = _stays.__get__(module)  # type: ignore[method-assign]


def _stays(module: nn.Module, mode: bool = True) -> nn.Module:
    """In place of `nn.Module.train`."""
    return module


def fill_head(head: nn.Linear, weight: Float[Tensor, "d k"], bias: Float[Tensor, " k"]) -> None:
    """Make the head compute features · weight + bias."""
    with torch.no_grad():
        head.weight.copy_(weight.T)
        if head.bias is not None:
            head.bias.copy_(bias)
