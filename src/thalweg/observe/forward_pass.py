"""One forward pass of the user's model, as its hooks see it."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class ForwardPass:
    """References only: nothing is copied."""

    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Tensor | None  # detached; the logits, where there are several outputs
    output_node: Any  # of the graph: where the model ends and the loss begins
    training: bool  # the model's own flag
    modes: Mapping[str, bool]  # each module whose behaviour depends on its flag
    autocast_dtype: tuple[str, torch.dtype] | None = None  # device and type of the loop's autocast
    gradients: list[Tensor] = field(default_factory=list)  # ∂loss/∂output, one a backward pass

    @property
    def first_input(self) -> Tensor | None:
        """The first tensor among the arguments."""
        return next(tensors((self.inputs, self.keywords)), None)

    def autocast(self) -> AbstractContextManager[object]:
        """Turn on the autocast that was on around this pass, if any."""
        return (
            nullcontext() if self.autocast_dtype is None else torch.autocast(*self.autocast_dtype)
        )


def capture(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Any, *, output: Any
) -> ForwardPass:
    """Note a forward pass; a hook on its output appends the gradient when backward comes."""
    main = main_output(output)
    forward = ForwardPass(
        inputs=inputs,
        keywords=keywords,
        output=None if main is None else main.detach(),
        output_node=None if main is None else main.grad_fn,
        training=model.training,
        modes={n: m.training for n, m in model.named_modules() if depends_on_mode(m)},
        autocast_dtype=None if main is None else _autocast_dtype(main.device.type),
    )
    if main is not None and main.requires_grad and torch.is_grad_enabled():
        gradients = forward.gradients
        # None where the loss was computed from something else, as from half-precision outputs.
        main.register_hook(lambda g: None if g is None else gradients.append(g.detach()))
    return forward


def _autocast_dtype(device: str) -> tuple[str, torch.dtype] | None:
    if not torch.is_autocast_enabled(device):
        return None
    return device, torch.get_autocast_dtype(device)


def depends_on_mode(module: nn.Module) -> bool:
    """True if train and eval mode differ for this very module."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.track_running_stats
    dropout = getattr(module, "dropout", 0.0)
    return isinstance(module, nn.RNNBase | nn.MultiheadAttention) and dropout > 0


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors(value)


def main_output(output: Any) -> Tensor | None:
    """The tensor that the loss is computed from, as far as one can tell from outside."""
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    floats = [t for t in tensors(output) if t.is_floating_point() and t.ndim > 0]
    return next((t for t in floats if t.requires_grad), floats[0] if floats else None)
