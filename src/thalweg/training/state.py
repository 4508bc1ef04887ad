"""State of a model, an optimizer and the random generators, as named tensors and plain values."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.errors import TrainingError
from thalweg.optim.ema import WeightAverage

Plain = dict[str, Any]
_CHOSEN = ("lr", "weight_decay", "momentum", "betas", "eps")


def collect(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None = None
) -> tuple[dict[str, Tensor], Plain]:
    """Dense copies of all tensors on the CPU, and the plain values needed to restore them.

    "strides" holds the memory layout of each tensor: a convolution's weights must be restored in
    channels-last order, or fused kernels take another path with other rounding.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    saved = optimizer.state_dict()
    plain: Plain = {"groups": saved["param_groups"], "scalars": {}}
    for index, entries in saved["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                plain["scalars"][f"{index}.{key}"] = value
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.average.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index, generator in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"random.cuda.{index}"] = generator
    plain["strides"] = {name: list(tensor.stride()) for name, tensor in tensors.items()}
    return {name: _dense(tensor) for name, tensor in tensors.items()}, plain


def restore(
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> None:
    """Restore what `collect` returned. Raises TrainingError if names or shapes differ."""
    try:
        fresh = {name: _with_strides(t, plain["strides"][name]) for name, t in tensors.items()}
        weights = {n.removeprefix("model."): t for n, t in fresh.items() if n.startswith("model.")}
        model.load_state_dict(weights)
        optimizer.load_state_dict(_optimizer_state(fresh, plain, optimizer))
        if average is not None:
            average.load({name: fresh[f"average.{name}"] for name in average.average})
        torch.set_rng_state(fresh["random.cpu"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TrainingError(
            "the checkpoint is of another model or optimizer",
            seen=" ".join(str(error).split()),
            fix="resume with the recipe that the run was started with",
        ) from error
    for name, generator in fresh.items():
        if name.startswith("random.cuda.") and torch.cuda.is_available():
            torch.cuda.set_rng_state(generator, int(name.rsplit(".", 1)[1]))


def hyperparameters(optimizer: torch.optim.Optimizer) -> list[Plain]:
    """The values of each group that a recipe chooses: rate, decay, momentum."""
    return [
        {name: group[name] for name in _CHOSEN if name in group} for group in optimizer.param_groups
    ]


def set_hyperparameters(optimizer: torch.optim.Optimizer, groups: list[Plain]) -> None:
    """Give each group these values; its rate is the one that the schedule scales from now on."""
    for group, values in zip(optimizer.param_groups, groups, strict=True):
        group.update(values, initial_lr=values["lr"])


def _optimizer_state(
    tensors: Mapping[str, Tensor], plain: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    entries: dict[int, dict[str, Any]] = {}
    saved = {n.removeprefix("optimizer."): t for n, t in tensors.items() if n[:10] == "optimizer."}
    for name, value in (saved | plain["scalars"]).items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = value
    groups = [
        {key: _like(value, current.get(key)) for key, value in group.items()}
        for group, current in zip(plain["groups"], optimizer.param_groups, strict=True)
    ]
    return {"state": entries, "param_groups": groups}


def _like(value: Any, current: Any) -> Any:
    """The value as a tuple if the current one is a tuple: JSON has none, AdamW's betas are one."""
    return tuple(value) if isinstance(current, tuple) else value


def _dense(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _with_strides(tensor: Tensor, strides: list[int]) -> Tensor:
    """A copy with these strides, in newly allocated and so aligned memory."""
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)
