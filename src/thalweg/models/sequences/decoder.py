"""The interface of decoders: tokens so far → logits of the next, whole or step by step."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from thalweg.models.sequences.memory import Memory

State = tuple[Tensor, ...]  # of one decoder; the same tensors, in the same order, after each step


class Decoder(nn.Module, ABC):
    """A network whose logits at each position depend on the tokens up to it, and on the memory.

    `mask` is True at real tokens, False at padding, which may stand before or behind them: the
    logits of real tokens are those without padding. `context` is the number of last tokens that a
    prediction can depend on in each layer, 0 where there is no limit.
    """

    vocabulary_size: int
    context: int

    @abstractmethod
    def forward(
        self,
        tokens: Int64[Tensor, "batch time"],
        memory: Memory | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time token"]: ...

    @abstractmethod
    def initial_state(
        self,
        batch_size: int,
        memory: Memory | None = None,
        device: torch.device | None = None,
    ) -> State:
        """The state before the first token."""

    @abstractmethod
    def forward_with_state(
        self,
        tokens: Int64[Tensor, "batch time"],
        state: State,
        memory: Memory | None = None,
        *,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time token"], State]:
        """The logits of a chunk that follows on the state, and the state behind it.

        For prompts, and for truncated back-propagation through time, with `detach` between chunks.
        """

    def step(
        self, previous: Int64[Tensor, " batch"], state: State, memory: Memory | None = None
    ) -> tuple[Float[Tensor, "batch token"], State]:
        """The logits after one more token of each row, and the state behind it."""
        logits, state = self.forward_with_state(previous[:, None], state, memory)
        return logits[:, 0], state

    @abstractmethod
    def reorder(self, state: State, rows: Int64[Tensor, " chosen"]) -> State:
        """The state of these rows of the batch, in this order, for beam search."""

    def detach(self, state: State) -> State:
        """The same state, cut off from the graph of the tokens before it."""
        return tuple(tensor.detach() for tensor in state)
