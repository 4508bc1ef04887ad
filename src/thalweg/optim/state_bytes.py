"""Memory of an optimizer's state."""

import torch
from torch import Tensor


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors in the optimizer's state; 0 before its first step.

    In multiples of the weights: SGD 0; momentum, AdaGrad, RMSProp, Lion and Muon 1; Adam 2.
    """
    tensors = (
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
