"""Tell the weights whose numbers an instrument can read from those that are packed or elsewhere."""

import torch
from torch import Tensor, nn

from thalweg.observe.local_shard import local_part

SMALLEST = 2  # bytes a number: PyTorch computes in no smaller floating point
ORDINARY = (Tensor, nn.Parameter, nn.Buffer)


def is_readable(weight: Tensor) -> bool:
    """True for dense numbers, real or complex, that are here.

    False for weights without a shape (lazy) or without numbers (meta), for sparse and nested ones,
    and for codes: integers, eight bits or fewer, and the packed tensors of quantisation libraries.
    """
    if nn.parameter.is_lazy(weight) or weight.is_meta:
        return False
    part = local_part(weight)
    numbers = part.is_floating_point() or part.is_complex()
    dense = part.layout == torch.strided and not part.is_nested and not part.is_quantized
    return numbers and dense and part.element_size() >= SMALLEST and type(part.data) in ORDINARY
