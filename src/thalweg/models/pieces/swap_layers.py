"""Swap the activations, norms or initialisation of a network that was built with ReLU and He."""

from collections.abc import Callable

from torch import nn

from thalweg.errors import UsageError
from thalweg.models.pieces.activation import ACTIVATIONS, widening
from thalweg.models.pieces.initialise import INITIALISATIONS
from thalweg.models.pieces.norm import NORMS


def swap_layers(
    model: nn.Module, *, activation: str = "relu", norm: str = "batch", init: str = "he"
) -> None:
    """Replace the model's ReLUs, batch norms and He initialisation.

    γ and β keep their values: a residual branch that starts at 0 still does.

    Raises: UsageError for maxout, whose inputs must be twice as wide, and for no norm at all, which
    would leave convolutions without biases.
    """
    if widening(activation) > 1 or norm == "none":
        raise UsageError(
            "this network needs a norm, and an activation that keeps the number of channels",
            seen=f"activation={activation}, norm={norm}",
            fix="another activation, or model=convnet, which takes any",
        )
    if activation != "relu":
        _replace(model, nn.ReLU, lambda layer: ACTIVATIONS[activation]())
    if norm != "batch":
        _replace(model, nn.BatchNorm2d, lambda layer: _norm_like(layer, norm))
    if init != "he":
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                INITIALISATIONS[init](layer.weight)


def _replace(
    model: nn.Module, layer_type: type[nn.Module], build: Callable[[nn.Module], nn.Module]
) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, layer_type):
                setattr(parent, name, build(child))


def _norm_like(batch_norm: nn.Module, name: str) -> nn.Module:
    channels = batch_norm.get_parameter("weight").shape[0]
    norm = NORMS[name](channels)
    norm.load_state_dict({key: batch_norm.get_parameter(key) for key in ("weight", "bias")})
    return norm
