"""The table of weight initialisations. Biases start at 0.

All of them keep the scale of signals from vanishing or exploding from layer to layer. With n inputs
per unit (kernel area × channels for a convolution), a linear or tanh layer keeps the variance at
std = √(1/n), a ReLU layer at √(2/n): not at 2/√n, which grows by √2 a layer.
"""

from collections.abc import Callable
from math import sqrt

import torch
from torch import Generator, Tensor, nn

from thalweg.errors import UsageError
from thalweg.models.pieces.residual import ResidualBlock
from thalweg.registry import Registry

LSUV_TOLERANCE = 0.05  # of the standard deviation
LSUV_ITERATIONS = 10

WeightLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def xavier(weight: Tensor, *, generator: Generator | None = None) -> None:
    """std = √(2 / (inputs + outputs)): keeps signals and gradients of linear or tanh layers.

    Source: Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html.
    """
    nn.init.xavier_normal_(weight, generator=generator)


def he(weight: Tensor, *, generator: Generator | None = None) -> None:
    """std = √(2 / inputs): keeps signals through ReLUs. Also called MSRA or Kaiming.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, equation 10.
    """
    nn.init.kaiming_normal_(weight, generator=generator)


def lecun(weight: Tensor, *, generator: Generator | None = None) -> None:
    """std = √(1 / inputs), as SELU needs. Source: LeCun et al. 1998, Efficient BackProp, §4.6."""
    nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)


def orthogonal(weight: Tensor, *, generator: Generator | None = None) -> None:
    """Set all singular values to 1. Source: Saxe et al. 2014, https://arxiv.org/abs/1312.6120."""
    nn.init.orthogonal_(weight, generator=generator)


def dirac(weight: Tensor, *, generator: Generator | None = None) -> None:
    """Set the identity on the channels that inputs and outputs have in common."""
    if weight.ndim == 2:
        nn.init.eye_(weight)
    else:
        nn.init.dirac_(weight)


def lsuv(weight: Tensor, *, generator: Generator | None = None) -> None:
    """Start orthogonal; training then scales each layer to variance 1 on its first batch.

    Source: Mishkin & Matas 2016, https://arxiv.org/abs/1511.06422; see `scale_to_unit_variance`.
    """
    nn.init.orthogonal_(weight, generator=generator)


INITIALISATIONS = Registry("initialisation", (he, xavier, lecun, orthogonal, dirac, lsuv))


def initialise(model: nn.Module, name: str, *, generator: Generator | None = None) -> None:
    """Initialise the weights of every linear and convolutional layer by name; zero the biases."""
    fill = INITIALISATIONS[name]
    for layer in weight_layers(model).values():
        fill(layer.weight, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def zero_residual_ends(model: nn.Module) -> int:
    """Zero the end of every residual branch, so that each block is the identity; count them.

    For experiments: no recipe applies it.
    Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, §5.1.
    """
    ends = [block.branch_end() for block in model.modules() if isinstance(block, ResidualBlock)]
    for end in ends:
        nn.init.zeros_(end.get_parameter("weight"))
        if end.bias is not None:
            nn.init.zeros_(end.get_parameter("bias"))
    return len(ends)


def scale_to_unit_variance(model: nn.Module, inputs: Tensor, *, spare: int = 0) -> None:
    """Scale the weights, layer by layer, until each output has variance 1 (LSUV).

    The last `spare` layers keep their weights, such as a head with near-equal logits.
    Cost: a few forward passes per layer. The model keeps its mode.
    Raises: UsageError for a layer with constant outputs.
    """
    layers = list(weight_layers(model))
    for name in layers[: len(layers) - spare]:
        _scale_layer(model, name, inputs)


def _scale_layer(model: nn.Module, name: str, inputs: Tensor) -> None:
    layer = model.get_submodule(name)
    for _ in range(LSUV_ITERATIONS):
        std = layer_outputs(model, inputs, names=(name,))[name].std().item()
        if std == 0:
            raise UsageError(
                f"{name} outputs the same number everywhere: no scale can give it variance 1",
                seen=f"{len(inputs)} inputs",
                fix="inputs that differ, or another initialisation of the layers before it",
            )
        if abs(std - 1) < LSUV_TOLERANCE:
            return
        with torch.no_grad():
            layer.get_parameter("weight").div_(std)


def layer_outputs(model: nn.Module, inputs: Tensor, *, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The outputs of the named modules for these inputs, in the order in which they ran.

    Buffers are restored: batch norms use the batch, but their running averages stay.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        return lambda module, args, output: outputs.update({name: output.detach().clone()})

    handles = [model.get_submodule(name).register_forward_hook(record(name)) for name in names]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return outputs


def weight_layers(model: nn.Module) -> dict[str, WeightLayer]:
    """Linear and convolutional layers by name, in the order of definition."""
    return {name: m for name, m in model.named_modules() if isinstance(m, WeightLayer)}


def initialise_by_fan_out(module: nn.Module) -> None:
    """Initialise a convolution, grouped or not, with std = √(2 / outputs that one input reaches).

    For `nn.Module.apply`: other modules stay as they are.
    """
    if isinstance(module, nn.Conv2d):
        outputs = module.weight[:, 0].numel() / module.groups
        nn.init.normal_(module.weight, std=sqrt(2 / outputs))
