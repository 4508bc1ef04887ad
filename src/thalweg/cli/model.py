"""`thalweg model NAME`: show a network's layers, costs and receptive field."""

from math import prod
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.errors import UsageError

INIT_SAMPLES = 64  # random inputs that an initialisation is measured on

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thalweg.recipes.recipe import Changes


def model(
    name: str = "",
    /,
    *,
    num_classes: int = 10,
    image_size: int = 224,
    channels: int = 3,
    features: int = 0,
    context: int = 256,
    changes: dict[str, int | float | bool | str] | None = None,
    effective: bool = False,
    init: bool = False,
    json: bool = False,
) -> None:
    """Show a network's layers: shapes, weights, FLOPs, memory, receptive field.

    Parameters
    ----------
    name: str
        A network, such as resnet18; without it, the names of all networks are listed.
    num_classes: int
        Outputs of the head.
    image_size: int
        Side of the square images, in pixels.
    channels: int
        Channels of the images.
    features: int
        Length of the vectors, for a network that reads vectors.
    context: int
        Tokens of a text, for a network that reads texts; num_classes is then their vocabulary.
    changes: dict
        Settings of the network, as --changes.depth 20 --changes.activation tanh.
    effective: bool
        Also measure the effective receptive field of the last feature map, by gradients.
    init: bool
        Show mean and deviation of each layer's outputs before training, on random inputs.
    json: bool
        Print JSON instead of a table.
    """
    from thalweg.classical.checks import check_count
    from thalweg.models import MODELS, input_kind
    from thalweg.models.anatomy.summary import summary
    from thalweg.models.build import WIDEST, build_model

    if not name:
        print_json(models=list(MODELS)) if json else print("\n".join(MODELS))
        return
    sizes = {"num_classes": num_classes, "image_size": image_size, "channels": channels}
    sizes |= {"context": context} | ({"features": features} if features else {})
    for option, size in sizes.items():
        check_count(size, name=option, most=WIDEST, of="the largest size")
    shape: tuple[int, ...] = (features,) if features else (channels, image_size, image_size)
    kind = input_kind(name)
    if kind not in ("numbers", "series"):
        _refuse_measurements_of_pixels(name, effective=effective, init=init)
        if kind != "questions":
            shape = (context,) if kind == "tokens" else (context, context, num_classes)
    network = build_model(name, num_classes, input_shape=shape, changes=changes or {})
    if init:
        _show_initialisation(network, shape, changes=changes or {}, json=json)
        return
    anatomy = summary(network, _example(kind, shape, context=context))
    extra = {"effective_field": _effective_field(network, shape)} if effective else {}
    if json:
        layers = [layer._asdict() for layer in anatomy.layers]
        print_json(model=name, **anatomy._replace(layers=())._asdict() | {"layers": layers} | extra)
        return
    rows = [
        (
            layer.name,
            layer.kind,
            " × ".join(map(str, layer.output_shape)),
            f"{layer.weights:,}",
            f"{layer.flops:,}",
            f"{layer.output_bytes:,}",
            str(layer.receptive_field),
        )
        for layer in anatomy.layers
    ]
    print(table(("layer", "kind", "output", "weights", "FLOPs", "bytes", "sees, px"), rows))
    print(
        f"\n{name}: {anatomy.weights:,} weights ({anatomy.weight_bytes / 2**20:.1f} MiB), "
        f"{anatomy.flops / 1e6:,.1f} MFLOP forward per sample of {prod(shape):,} numbers, "
        f"{anatomy.activation_bytes / 2**20:.1f} MiB of outputs per sample"
    )
    if effective:
        print(f"effective receptive field of the last map: {extra['effective_field']:.0f} px")


def _refuse_measurements_of_pixels(name: str, *, effective: bool, init: bool) -> None:
    """Raise UsageError for a measurement that feeds random real numbers."""
    if effective or init:
        raise UsageError(
            f"{name} reads texts: it has no receptive field, and no scale on random numbers",
            seen="--effective" if effective else "--init",
            fix="leave it out, or a network for images or vectors",
        )


def _example(
    kind: str, shape: tuple[int, ...], *, context: int
) -> "tuple[int, ...] | dict[str, Tensor]":
    """A shape of numbers, or texts of so many tokens by the names that networks take them by."""
    import torch

    if kind in ("numbers", "series"):
        return shape
    tokens = torch.zeros(1, context, dtype=torch.int64)
    if kind == "questions":
        return {"images": torch.zeros(1, *shape), "words": tokens, "mask": tokens == 0}
    if kind == "texts":
        weights = torch.ones(1, context)
        return {"tokens": tokens, "mask": weights > 0, "ngrams": tokens, "weights": weights}
    return {"tokens": tokens} if kind == "tokens" else {"tokens": tokens, "source": tokens}


def _show_initialisation(
    network: "nn.Module", shape: tuple[int, ...], *, changes: "Changes", json: bool
) -> None:
    """Print the scale of the signals, layer by layer; the inputs are normal deviates."""
    import torch

    from thalweg.models.anatomy.signal_scale import activation_statistics, signal_trend
    from thalweg.models.pieces.fit_to_inputs import fit_to_inputs

    inputs = torch.randn(INIT_SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
    fit_to_inputs(network, changes, lambda least: inputs)
    layers = activation_statistics(network, inputs)
    trend = signal_trend(layers)
    if json:
        print_json(layers=[layer._asdict() for layer in layers], verdict=trend)
        return
    print(table(("layer", "mean", "std"), [(n, f"{m:.3g}", f"{s:.3g}") for n, m, s in layers]))
    print(f"\nbefore training, on {INIT_SAMPLES} random inputs: signals are {trend} over the depth")


def _effective_field(network: "nn.Module", shape: tuple[int, ...]) -> float:
    """Side of the effective receptive field in pixels, over eight random images; 1 without maps."""
    import torch
    from torch import nn

    from thalweg.models.anatomy.receptive_field import effective_field, effective_size

    maps = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if not maps or len(shape) != 3:
        return 1.0
    images = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0))
    return effective_size(effective_field(network, maps[-1], images))
