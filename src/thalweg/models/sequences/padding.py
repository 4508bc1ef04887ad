"""Sequences through recurrent layers: padding changes neither outputs nor states."""

from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, ...]


def run_over_real_tokens(
    layers: nn.RNNBase,
    inputs: Float[Tensor, "batch time dim"],
    mask: Bool[Tensor, "batch time"],
    *,
    state: State | None = None,
) -> tuple[Float[Tensor, "batch time width"], State]:
    """The outputs at real positions, 0 at padding, and the state behind each row's last token.

    Padding may stand anywhere: the real tokens are moved to the front and their outputs back. A row
    without any keeps its state.
    """
    start = state if state is None or len(state) > 1 else state[0]
    if mask.is_meta or bool(mask.all()):  # nothing is padded
        outputs, end = run_recurrent(layers, inputs, start)
        return outputs, end if isinstance(end, tuple) else (end,)
    order = (~mask).to(torch.int8).argsort(dim=1, stable=True)  # real tokens first
    lengths = mask.sum(1)
    packed = pack_padded_sequence(
        _gather(inputs, order), lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False
    )
    outputs, end = run_recurrent(layers, packed, start)
    states: State = end if isinstance(end, tuple) else (end,)
    padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
    back = order.argsort(dim=1)
    if state is not None:
        empty = (lengths == 0)[None, :, None]
        states = tuple(torch.where(empty, o, n) for o, n in zip(state, states, strict=True))
    return _gather(padded, back) * mask[..., None].to(padded.dtype), states


def run_recurrent(layers: nn.RNNBase, inputs: Any, start: Any) -> tuple[Any, Any]:
    """The outputs and the last state of recurrent layers, of padded or of packed inputs.

    Under autocast an LSTM computes in float32 on a processor without bfloat16: its kernel has no
    other way there, while products have.
    """
    is_reduced = torch.is_autocast_enabled("cpu") and next(layers.parameters()).is_cpu
    if not is_reduced or not isinstance(layers, nn.LSTM) or _has_bfloat16():
        return layers(inputs, start)
    with torch.autocast("cpu", enabled=False):
        start = None if start is None else tuple(state.float() for state in start)
        return layers(inputs.float(), start)


@cache
def _has_bfloat16() -> bool:
    """True where oneDNN has kernels of bfloat16 for this processor."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _gather(
    rows: Float[Tensor, "batch time dim"], order: Int64[Tensor, "batch time"]
) -> Float[Tensor, "batch time dim"]:
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[-1]))
