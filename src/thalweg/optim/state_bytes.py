"""What an optimizer remembers."""

import torch
from torch import Tensor


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors in the optimizer's state; 0 before its first step.

    Beside the weights themselves: SGD none, momentum, AdaGrad, RMSProp, Lion and Muon as much
    again, Adam twice as much.
    """
    tensors = (
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
