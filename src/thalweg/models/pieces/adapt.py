"""Another activation, norm or initialisation in a network that was built with the usual ones."""

from collections.abc import Callable

from torch import nn

from thalweg.errors import UsageError
from thalweg.models.pieces.activation import ACTIVATIONS, widening
from thalweg.models.pieces.initialise import INITIALISATIONS
from thalweg.models.pieces.norm import NORMS


def adapted(
    model: nn.Module, *, activation: str = "relu", norm: str = "batch", init: str = "he"
) -> None:
    """Put them into the model, which was built with rectifiers, batch norms and He's weights.

    γ and β stay as they were: a residual branch that started at nought still does. Raises
    UsageError for maxout, whose inputs must be twice as wide, and for no norm at all, which would
    leave convolutions without biases.
    """
    if widening(activation) > 1 or norm == "none":
        raise UsageError(
            "these layers were laid out for a norm, and for activations of one input",
            seen=f"activation={activation}, norm={norm}",
            fix="another activation, or model=convnet, which takes any",
        )
    if activation != "relu":
        _exchange(model, nn.ReLU, lambda old: ACTIVATIONS[activation]())
    if norm != "batch":
        _exchange(model, nn.BatchNorm2d, lambda old: _norm_like(old, norm))
    if init != "he":
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                INITIALISATIONS[init](layer.weight)


def _exchange(
    model: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]
) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))


def _norm_like(old: nn.Module, name: str) -> nn.Module:
    channels = old.get_parameter("weight").shape[0]
    new = NORMS[name](channels)
    new.load_state_dict({key: old.get_parameter(key) for key in ("weight", "bias")})
    return new
