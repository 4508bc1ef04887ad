"""Use somebody's model without leaving a trace: modes, buffers, weights and random state come back.

Nothing is ever written into the user's tensors. Weights are replaced by leaves of our own (which
share memory with them where the dtype allows), buffers by copies, and the originals are put back,
the same objects, whatever happens in between.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase

BatchNormMode = Literal["train", "eval", "as-found"]
Normalised = Literal["train", "eval", "as-found", "none"]  # none: no layer normalises by batches


class Slot(NamedTuple):
    """One place in a model where a tensor hangs."""

    module: nn.Module
    name: str


def unwrapped(model: nn.Module) -> nn.Module:
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
    """Each weight's name and every place it hangs in: more than one where weights are tied."""
    slots: dict[int, tuple[str, list[Slot]]] = {}
    for prefix, module in model.named_modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                full = f"{prefix}.{name}" if prefix else name
                slots.setdefault(id(weight), (full, []))[1].append(Slot(module, name))
    return dict(slots.values())


@contextmanager
def borrowed(model: nn.Module, batch_norm: BatchNormMode) -> Iterator[None]:
    """Inside: dropout off, normalisation as asked for, autograd on. After: everything as found."""
    found = [(module, module.training, dict(module._buffers)) for module in model.modules()]
    with ExitStack() as stack:
        stack.enter_context(_random_state_kept())
        stack.enter_context(_differentiable_twice(model))
        try:
            _set_modes(model, batch_norm)
            yield
        finally:
            for module, training, buffers in found:
                module.training = training
                module._buffers.clear()
                module._buffers.update(buffers)


def fresh_buffers(model: nn.Module, dtype: torch.dtype) -> None:
    """Hang copies in place of the buffers, so that a forward pass cannot change the originals."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                kept = dtype if buffer.is_floating_point() else buffer.dtype
                module._buffers[name] = buffer.detach().to(kept, copy=True)


def hang(slots: list[Slot], weight: nn.Parameter) -> None:
    """Put a weight in its places. setattr, because recurrent layers keep a list of their own."""
    for module, name in slots:
        setattr(module, name, weight)


def _set_modes(model: nn.Module, batch_norm: BatchNormMode) -> None:
    for module in model.modules():
        if not isinstance(module, _NormBase):
            module.training = False
        elif batch_norm != "as-found":
            module.training = batch_norm == "train"


@contextmanager
def _random_state_kept() -> Iterator[None]:
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


@contextmanager
def _differentiable_twice(model: nn.Module) -> Iterator[None]:
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
