"""A recurrent network whose weights are set by hand: it finds two ones in a row.

h = relu(W_hh h + W_xh x), y = relu(W_hy h), with the state [current, previous, 1]. The input is
copied into the first entry, the first entry moves to the second, the third stays 1; the output is
current + previous − 1, which is 1 only where both are.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CURRENT_FROM_INPUT = ((1.0,), (0.0,), (0.0,))
NEXT_FROM_STATE = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
OUTPUT_FROM_STATE = ((1.0, 1.0, -1.0),)
FIRST_STATE = (0.0, 0.0, 1.0)


class HandMadeRNN(nn.Module):
    """The same recurrence written out, one step a line, with the same weights at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.w_xh = nn.Parameter(torch.tensor(CURRENT_FROM_INPUT))
        self.w_hh = nn.Parameter(torch.tensor(NEXT_FROM_STATE))
        self.w_hy = nn.Parameter(torch.tensor(OUTPUT_FROM_STATE))
        self.first_state = nn.Parameter(torch.tensor(FIRST_STATE))

    def forward(self, inputs: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        state = self.first_state.expand(len(inputs), -1)
        outputs = []
        for value in inputs.unbind(1):
            state = F.relu(state @ self.w_hh.T + value[:, None] @ self.w_xh.T)
            outputs.append(F.relu(state @ self.w_hy.T))
        return torch.cat(outputs, dim=1)
