from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.eval_passes import EvalPasses, eval_passes
from thalweg.observe.forward_pass import tensors
from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.observe.instruments.sample_independence import is_due
from thalweg.observe.instruments.tokens import padded_tails
from thalweg.observe.sample_arguments import Arguments, arguments_of, sample_axis, selected_samples
from thalweg.record.quantities import MASK_INVERTED

SAMPLES = 32  # of a batch: some of them are padded
MASKS = (
    "key_padding_mask", "src_key_padding_mask", "tgt_key_padding_mask", "memory_key_padding_mask",
)  # fmt: skip
LAYERS = (
    nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
    nn.TransformerEncoder, nn.TransformerDecoder, nn.Transformer,
)  # fmt: skip


@instrument(MASK_INVERTED, when="loss", rare=True)
def attention_masks(moment: Moment) -> Measurements:
    """1 at each attention layer whose padding mask hides the content and shows the padding.

    The masks that PyTorch's own attention layers are called with, beside the tails of the tokens
    that the model takes. Cost: one forward pass of some samples, ever more rarely.
    """
    arguments = arguments_of(moment.forward)
    if arguments is None or not any(isinstance(m, LAYERS) for m in moment.model.modules()):
        return {}
    if not is_due(moment, MASK_INVERTED):
        return {}
    along = sample_axis(arguments, 0)
    if along is None:
        return {}
    arguments = selected_samples(arguments, along, range(min(SAMPLES, along.size)))
    tails = [one for one in map(_tails, tensors(tuple(arguments))) if one is not None]
    if not tails:
        return {}
    with eval_passes(moment) as passes:
        masks = _masks(passes, arguments)
    inverted = {name: _is_inverted(mask, tails) for name, mask in masks.items()}
    flags = {name: float(one) for name, one in inverted.items() if one is not None}
    return flags | {"": max(flags.values())} if flags else {}


def _tails(tensor: Tensor) -> Tensor | None:
    """True at the padding of a tensor of tokens."""
    integers = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    return padded_tails(tensor) if integers and tensor.ndim == 2 and tensor.shape[1] > 1 else None


def _is_inverted(mask: Tensor, tails: list[Tensor]) -> bool | None:
    """True if a mask hides all but the padding of some tokens; None where it fits no tokens."""
    hidden = mask if mask.dtype == torch.bool else mask < -1e4
    alike = [one for one in tails if one.shape == hidden.shape]
    if any(bool((hidden == one).all()) for one in alike):
        return False
    return True if any(bool((hidden == ~one).all()) for one in alike) else None


def _masks(passes: EvalPasses, arguments: Arguments) -> dict[str, Tensor]:
    """The last mask that each attention layer was called with."""
    masks: dict[str, Tensor] = {}
    with _layers_heard(passes.copy, masks), _slow_attention():
        passes.output(arguments)
    return masks


@contextmanager
def _layers_heard(model: nn.Module, masks: dict[str, Tensor]) -> Iterator[None]:
    """Write the masks of each call into the table, by layer and argument."""

    def keep(module: nn.Module, positional: Any, named: Mapping[str, Any], *, name: str) -> None:
        arguments = signature(module.forward).bind(*positional, **named).arguments
        for argument in MASKS:
            if isinstance(arguments.get(argument), Tensor):
                masks[f"{name} {argument}".strip()] = arguments[argument].detach()

    handles = [
        module.register_forward_pre_hook(partial(keep, name=name), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _slow_attention() -> Iterator[None]:
    """The way of training: the fast one of eval mode packs the samples, and drops the masks."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
