"""Encoder–decoders: named sources become a memory, a decoder writes with attention over it.

Source: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215; with attention: Bahdanau et al.
2015, https://arxiv.org/abs/1409.0473; Transformers: Vaswani et al. 2017,
https://arxiv.org/abs/1706.03762.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from thalweg.errors import UsageError
from thalweg.models.pieces.pair_shape import pair_shape
from thalweg.models.sequences.decoder import Decoder
from thalweg.models.sequences.encoders import TextEncoder, TransformerTextEncoder
from thalweg.models.sequences.memory import Memory, join_memories
from thalweg.models.sequences.recurrent import RecurrentDecoder
from thalweg.models.sequences.transformer import TransformerDecoder

HEAD_STD = 0.05  # small, since the first loss is to be chance; but the encoder learns through it
MASK = "_mask"  # the end of the name of a source's mask


class EncoderDecoder(nn.Module):
    """An encoder for each named source, one memory of all of them, and a decoder.

    Teacher forcing: `tokens` holds the border token and the target without its end, and the logits
    at each place are those of the next token. With `scheduled_sampling` that share of the tokens is
    replaced in training by the decoder's own likeliest ones (Bengio et al. 2015,
    https://arxiv.org/abs/1506.03099; all at once, as in Mihaylova & Martins 2019,
    https://arxiv.org/abs/1906.07651), so that it learns to go on behind its own mistakes.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        decoder: Decoder,
        *,
        longest: int,  # tokens of the longest target, by which writing is bounded
        scheduled_sampling: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= scheduled_sampling <= 1:
            raise UsageError(
                "scheduled_sampling is a share of the tokens",
                seen=f"scheduled_sampling={scheduled_sampling}",
                fix="0 to 1, as 0.1",
            )
        self.encoders, self.decoder = nn.ModuleDict(encoders), decoder
        self.longest, self.scheduled_sampling = longest, scheduled_sampling

    def encode(self, sources: Mapping[str, Tensor]) -> Memory:
        """The memory of a batch; a source `x` may have a mask `x_mask`."""
        memories = []
        for name, encoder in self.encoders.items():
            masks = [sources[name + MASK]] if name + MASK in sources else []
            memories.append(encoder(sources[name], *masks))
        return memories[0] if len(memories) == 1 else join_memories(memories)

    def forward(
        self, tokens: Int64[Tensor, "batch time"], **sources: Tensor
    ) -> Float[Tensor, "batch time token"]:
        memory = self.encode(sources)
        if self.training and self.scheduled_sampling:
            tokens = self._with_own_tokens(tokens, memory)
        logits: Tensor = self.decoder(tokens, memory)
        return logits

    @torch.no_grad()
    def _with_own_tokens(
        self, tokens: Int64[Tensor, "batch time"], memory: Memory
    ) -> Int64[Tensor, "batch time"]:
        guesses = self.decoder(tokens, memory).argmax(-1)
        own = torch.cat((tokens[:, :1], guesses[:, :-1]), dim=1)
        is_replaced = torch.rand(tokens.shape, device=tokens.device) < self.scheduled_sampling
        is_replaced[:, 0] = False  # the border, from which every sequence begins
        return torch.where(is_replaced, own, tokens)


def transformer_seq2seq(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 128,
    depth: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    scheduled_sampling: float = 0.0,
) -> EncoderDecoder:
    """An encoder and a decoder of `depth` Transformer blocks each.

    `num_classes` is the size of the target's vocabulary, with the border token.
    """
    shape = pair_shape(input_shape, model="transformer_seq2seq")
    encoder = TransformerTextEncoder(
        shape.vocabulary, width=width, depth=depth, heads=heads, dropout=dropout
    )
    decoder = TransformerDecoder(
        num_classes,
        width=width,
        depth=depth,
        heads=heads,
        context=shape.target,
        dropout=dropout,
        memory_width=width,
    )
    return EncoderDecoder(
        {"source": encoder}, decoder, longest=shape.target, scheduled_sampling=scheduled_sampling
    )


def _recurrent(
    num_classes: int,
    cell: str,
    *,
    input_shape: tuple[int, ...],
    width: int,
    depth: int,
    dropout: float,
    attention: str,
    scheduled_sampling: float,
) -> EncoderDecoder:
    shape = pair_shape(input_shape, model=f"{cell}_seq2seq")
    encoder = TextEncoder(shape.vocabulary, width=width, depth=depth, cell=cell, dropout=dropout)
    decoder = RecurrentDecoder(
        num_classes,
        cell=cell,
        width=width,
        depth=depth,
        dropout=dropout,
        attention="" if attention == "none" else attention,
        memory_width=width,
    )
    nn.init.normal_(decoder.head.weight, std=HEAD_STD)
    return EncoderDecoder(
        {"source": encoder}, decoder, longest=shape.target, scheduled_sampling=scheduled_sampling
    )


def gru_seq2seq(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 128,
    depth: int = 1,
    dropout: float = 0.0,
    attention: str = "dot",
    scheduled_sampling: float = 0.0,
) -> EncoderDecoder:
    """Gated recurrent units: an encoder in both directions, a decoder with attention over it.

    `num_classes` is the size of the target's vocabulary, with the border token. `attention` is dot,
    additive or none.
    """
    return _recurrent(
        num_classes,
        "gru",
        input_shape=input_shape,
        width=width,
        depth=depth,
        dropout=dropout,
        attention=attention,
        scheduled_sampling=scheduled_sampling,
    )


def lstm_seq2seq(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 128,
    depth: int = 1,
    dropout: float = 0.0,
    attention: str = "dot",
    scheduled_sampling: float = 0.0,
) -> EncoderDecoder:
    """Long short-term memory: an encoder in both directions, a decoder with attention over it.

    `num_classes` is the size of the target's vocabulary, with the border token. `attention` is dot,
    additive or none.
    """
    return _recurrent(
        num_classes,
        "lstm",
        input_shape=input_shape,
        width=width,
        depth=depth,
        dropout=dropout,
        attention=attention,
        scheduled_sampling=scheduled_sampling,
    )


def rnn_seq2seq(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 128,
    depth: int = 1,
    dropout: float = 0.0,
    attention: str = "none",
    scheduled_sampling: float = 0.0,
) -> EncoderDecoder:
    """Tanh units without attention: all of the input must pass through one vector.

    `num_classes` is the size of the target's vocabulary, with the border token. `attention` is dot,
    additive or none.
    """
    return _recurrent(
        num_classes,
        "rnn",
        input_shape=input_shape,
        width=width,
        depth=depth,
        dropout=dropout,
        attention=attention,
        scheduled_sampling=scheduled_sampling,
    )
