"""Recurrent decoders on PyTorch's RNN, LSTM and GRU, with or without attention over a memory.

Source: Elman 1990, https://doi.org/10.1207/s15516709cog1402_1; Hochreiter & Schmidhuber 1997,
https://doi.org/10.1162/neco.1997.9.8.1735; Cho et al. 2014, https://arxiv.org/abs/1406.1078.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from thalweg.models.pieces.token_shape import context_length
from thalweg.models.sequences.attention import ATTENTIONS
from thalweg.models.sequences.decoder import Decoder, State
from thalweg.models.sequences.memory import Memory
from thalweg.models.sequences.padding import run_over_real_tokens, run_recurrent
from thalweg.registry import unknown_name

CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn": nn.RNN,
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
FORGET_BIAS = 1.0  # an LSTM remembers at first: Jozefowicz et al. 2015, jozefowicz15.pdf, §4


class RecurrentDecoder(Decoder):
    """Embedding, `depth` recurrent layers of `width` units, attention where named, a linear head.

    The state is the hidden state of each layer, [depth, batch, width], and an LSTM's cells. With a
    memory, its summary sets the first state.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: str = "lstm",
        width: int = 256,
        depth: int = 1,
        dropout: float = 0.0,
        attention: str = "",
        memory_width: int = 0,
        forget_bias: float = FORGET_BIAS,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise unknown_name("recurrent cell", cell, CELLS)
        self.vocabulary_size, self.context = vocabulary_size, 0
        self.num_states = 2 if cell == "lstm" else 1
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.dropout = nn.Dropout(dropout)
        between = dropout if depth > 1 else 0.0  # torch warns of dropout behind a single layer
        self.layers = CELLS[cell](width, width, depth, batch_first=True, dropout=between)
        if cell == "lstm":
            set_forget_bias(self.layers, forget_bias)
        self.attention = ATTENTIONS[attention](width, memory_width) if attention else None
        self.mix = nn.Linear(width + memory_width, width) if attention else None
        self.first = (
            nn.Linear(memory_width, self.num_states * depth * width) if memory_width else None
        )
        self.head = nn.Linear(width, vocabulary_size)
        nn.init.normal_(self.head.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        tokens: Int64[Tensor, "batch time"],
        memory: Memory | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time token"]:
        state = self.initial_state(len(tokens), memory, tokens.device)
        return self.forward_with_state(tokens, state, memory, mask=mask)[0]

    def initial_state(
        self,
        batch_size: int,
        memory: Memory | None = None,
        device: torch.device | None = None,
    ) -> State:
        """Zeros, or a function of the memory's summary."""
        depth, width = self.layers.num_layers, self.layers.hidden_size
        if memory is None or self.first is None:
            like = self.head.weight
            shape = (depth, batch_size, width)
            return tuple(like.new_zeros(shape, device=device) for _ in range(self.num_states))
        start = torch.tanh(self.first(memory.mean())).to(self.head.weight.dtype)
        states = start.view(batch_size, self.num_states, depth, width).permute(1, 2, 0, 3)
        return tuple(tensor.contiguous() for tensor in states)

    def forward_with_state(
        self,
        tokens: Int64[Tensor, "batch time"],
        state: State,
        memory: Memory | None = None,
        *,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time token"], State]:
        """The logits of a chunk that follows on the state; padding leaves the state unchanged."""
        hidden, state = self.hidden_states(tokens, state, mask=mask)
        if memory is not None and self.attention is not None and self.mix is not None:
            context, _ = self.attention(hidden, memory)
            hidden = torch.tanh(self.mix(torch.cat((hidden, context.to(hidden.dtype)), dim=-1)))
        return self.head(self.dropout(hidden)).float(), state

    def hidden_states(
        self,
        tokens: Int64[Tensor, "batch time"],
        state: State,
        *,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time width"], State]:
        """The last layer's hidden state after each token, and the state behind the last one."""
        inputs = self.dropout(self.embedding(tokens))
        if mask is not None:
            return run_over_real_tokens(self.layers, inputs, mask, state=state)
        start = state if self.num_states > 1 else state[0]
        hidden, end = run_recurrent(self.layers, inputs, start)
        return hidden, end if self.num_states > 1 else (end,)

    @torch.no_grad()
    def unit_activations(
        self, tokens: Int64[Tensor, "batch time"]
    ) -> Float[Tensor, "layer batch time unit"]:
        """The state of each unit after each token: of an LSTM its cells, between −1 and 1 by tanh.

        Coloured over the text, single units show what they count, such as the end of a quotation.
        Source: Karpathy, Johnson, Fei-Fei 2015, https://arxiv.org/abs/1506.02078, §4.2.
        """
        state, steps = self.initial_state(len(tokens), device=tokens.device), []
        for column in tokens.split(1, dim=1):
            _, state = self.hidden_states(column, state)
            steps.append(torch.tanh(state[1]) if self.num_states > 1 else state[0])
        return torch.stack(steps, dim=2)

    def attention_weights(
        self, tokens: Int64[Tensor, "batch time"], memory: Memory
    ) -> Float[Tensor, "batch time entry"]:
        """The weight of each entry of the memory at each step, for a picture."""
        assert self.attention is not None, "this decoder has no attention"
        state = self.initial_state(len(tokens), memory, tokens.device)
        hidden, _ = self.hidden_states(tokens, state)
        return self.attention(hidden, memory)[1]

    def reorder(self, state: State, rows: Int64[Tensor, " chosen"]) -> State:
        """The state of these rows of the batch, in this order."""
        return tuple(tensor[:, rows] for tensor in state)


def set_forget_bias(layers: nn.RNNBase, value: float) -> None:
    """Let the forget gates of an LSTM start at sigmoid(value) for inputs and states of zero.

    PyTorch adds two biases to each gate; the second is set to 0 for the forget gate. Its gates
    stand in the order input, forget, cell, output.
    """
    width = layers.hidden_size
    with torch.no_grad():
        for name, bias in layers.named_parameters():
            if name.startswith("bias"):
                bias[width : 2 * width] = value if name.startswith("bias_ih") else 0.0


def rnn_lm(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 256,
    depth: int = 1,
    dropout: float = 0.0,
) -> RecurrentDecoder:
    """A language model of tanh units, the simplest recurrent network; it forgets soon.

    `num_classes` is the size of the vocabulary. `depth` layers have `width` units each.
    """
    context_length(input_shape, model="rnn_lm")
    return RecurrentDecoder(num_classes, cell="rnn", width=width, depth=depth, dropout=dropout)


def lstm_lm(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 256,
    depth: int = 1,
    dropout: float = 0.0,
    forget_bias: float = FORGET_BIAS,
) -> RecurrentDecoder:
    """A language model of long short-term memory: cells keep what their gates let in.

    `num_classes` is the size of the vocabulary. `depth` layers have `width` units each, whose
    forget gates start at sigmoid(`forget_bias`).
    """
    context_length(input_shape, model="lstm_lm")
    return RecurrentDecoder(
        num_classes,
        cell="lstm",
        width=width,
        depth=depth,
        dropout=dropout,
        forget_bias=forget_bias,
    )


def gru_lm(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 256,
    depth: int = 1,
    dropout: float = 0.0,
) -> RecurrentDecoder:
    """A language model of gated recurrent units, with three quarters of an LSTM's weights.

    `num_classes` is the size of the vocabulary. `depth` layers have `width` units each.
    """
    context_length(input_shape, model="gru_lm")
    return RecurrentDecoder(num_classes, cell="gru", width=width, depth=depth, dropout=dropout)
