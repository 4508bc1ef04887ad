"""Split a network into features, which transfer keeps, and a linear head, which it fits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import UsageError


def named_head(model: nn.Module, *, outputs: int) -> tuple[str, nn.Linear]:
    """The name of the output layer, and the layer: the last linear one with that many outputs.

    Raises: UsageError for a network that does not end in a linear layer.
    """
    candidates = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == outputs
    ]
    if not candidates:
        raise UsageError(
            "the network does not end in a linear layer, so that no head can be fitted",
            seen=f"{type(model).__name__}: no nn.Linear with {outputs} outputs",
            fix="another pretrained network, or transfer.method = none",
        )
    return candidates[-1]


class Features(nn.Module):
    """Compute the inputs of the model's head, [n, d].

    A hook on the head records them while the whole model runs, so that this works for any network,
    whatever pools and flattens before the head.
    """

    def __init__(self, model: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.model = model
        self._head = [head]  # in a list: not registered again, the model has it already

    @property
    def dim(self) -> int:
        return self._head[0].in_features

    def forward(self, images: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d"]:
        inputs: list[Tensor] = []
        with _record_inputs(self._head[0], inputs):
            self.model(images)
        return inputs[-1].flatten(1).float()


@contextmanager
def _record_inputs(head: nn.Linear, inputs: list[Tensor]) -> Iterator[None]:
    handle = head.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        yield
    finally:
        handle.remove()


def freeze_for_transfer(
    model: nn.Module, method: Literal["none", "probe", "last", "all"], *, outputs: int
) -> None:
    """Freeze the layers that a method of transfer does not train: all but the head, or the end."""
    if method in ("none", "all"):
        return
    name, head = named_head(model, outputs=outputs)
    trained = {f"{name}.{weight}" for weight, _ in head.named_parameters()}
    freeze(model, trained | last_third(model) if method == "last" else trained)


def last_third(model: nn.Module) -> set[str]:
    """Names of the weights of the last third of the layers, in the order of declaration."""
    names = [name for name, _ in model.named_parameters()]
    layers = [name for name, weight in model.named_parameters() if weight.ndim >= 2]
    return set(names[names.index(layers[2 * len(layers) // 3]) :])


def freeze(model: nn.Module, trained: set[str]) -> None:
    """Freeze all weights but the named ones; modules without any stay in evaluation mode for good.

    A frozen batch norm would otherwise keep updating its running averages.
    """
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in trained)
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()
            module.train = _stay_in_evaluation_mode.__get__(module)  # type: ignore[method-assign]


def _stay_in_evaluation_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    """Replace `nn.Module.train`."""
    return module


def fill_head(head: nn.Linear, weight: Float[Tensor, "d k"], bias: Float[Tensor, " k"]) -> None:
    """Set the head to compute features · weight + bias."""
    with torch.no_grad():
        head.weight.copy_(weight.T)
        if head.bias is not None:
            head.bias.copy_(bias)
