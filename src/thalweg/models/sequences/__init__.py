"""Networks for sequences: encoders fill a `Memory`, decoders predict token after token."""

from thalweg.models.sequences.decoder import Decoder, State
from thalweg.models.sequences.encoders import (
    GridEncoder,
    PooledEncoder,
    TextEncoder,
    TransformerTextEncoder,
)
from thalweg.models.sequences.memory import Memory, join_memories
from thalweg.models.sequences.recurrent import RecurrentDecoder, gru_lm, lstm_lm, rnn_lm
from thalweg.models.sequences.transformer import TransformerDecoder, transformer_lm

__all__ = [
    "Decoder",
    "GridEncoder",
    "Memory",
    "PooledEncoder",
    "RecurrentDecoder",
    "State",
    "TextEncoder",
    "TransformerDecoder",
    "TransformerTextEncoder",
    "gru_lm",
    "join_memories",
    "lstm_lm",
    "rnn_lm",
    "transformer_lm",
]
