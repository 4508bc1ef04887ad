"""Prepare somebody's model for second derivatives, and give it back as it was.

Weights are replaced by leaves of our own (which share memory with them where the dtype allows),
buffers by copies; the originals are put back, the same objects, whatever happens in between.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase

from thalweg.borrow import check_module, preserve_buffers, preserve_modes, preserve_random_state

BatchNormMode = Literal["train", "eval", "as-found"]
Normalisation = Literal["train", "eval", "as-found", "none"]  # none: no batch norm


class Slot(NamedTuple):
    """One place in a model that holds a tensor: an attribute of a module."""

    module: nn.Module
    name: str


def innermost_model(model: nn.Module) -> nn.Module:
    """The model below wrappers that cannot be differentiated twice: compiled, data-parallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile's
        if inner is None and isinstance(
            model, nn.DataParallel | nn.parallel.DistributedDataParallel
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def weight_slots(model: nn.Module) -> dict[str, list[Slot]]:
    """Each weight's name and its slots: more than one where weights are tied."""
    check_module(model)
    slots: dict[int, tuple[str, list[Slot]]] = {}
    for prefix, module in model.named_modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                full = f"{prefix}.{name}" if prefix else name
                slots.setdefault(id(weight), (full, []))[1].append(Slot(module, name))
    return dict(slots.values())


@contextmanager
def twice_differentiable(model: nn.Module, batch_norm: BatchNormMode) -> Iterator[None]:
    """Switch dropout off, autograd on, and normalisation to `batch_norm`, inside the block."""
    with ExitStack() as stack:
        stack.enter_context(preserve_modes(model))
        stack.enter_context(preserve_buffers(model))
        stack.enter_context(preserve_random_state())
        stack.enter_context(_differentiable_kernels(model))
        _set_modes(model, batch_norm)
        yield


def replace_buffers(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace the buffers by copies, so that a forward pass cannot change the originals."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                own_dtype = dtype if buffer.is_floating_point() else buffer.dtype
                module._buffers[name] = buffer.detach().to(own_dtype, copy=True)


def set_weight(slots: list[Slot], weight: nn.Parameter) -> None:
    """Put a weight into its slots. By setattr: recurrent layers keep a list of their own."""
    for module, name in slots:
        setattr(module, name, weight)


def _set_modes(model: nn.Module, batch_norm: BatchNormMode) -> None:
    for module in model.modules():
        if not isinstance(module, _NormBase):
            module.training = False
        elif batch_norm != "as-found":
            module.training = batch_norm == "train"


@contextmanager
def _differentiable_kernels(model: nn.Module) -> Iterator[None]:
    """Only kernels with a second derivative: plain attention, no cuDNN recurrence, no autocast."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            stack.enter_context(torch.autocast("cuda", enabled=False))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:  # only then can any part of the model be compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
