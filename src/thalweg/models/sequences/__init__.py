"""Networks for sequences: encoders fill a `Memory`, decoders predict token after token."""

from thalweg.models.sequences.decoder import Decoder, State
from thalweg.models.sequences.encoder_decoder import (
    EncoderDecoder,
    gru_seq2seq,
    lstm_seq2seq,
    rnn_seq2seq,
    transformer_seq2seq,
)
from thalweg.models.sequences.encoders import (
    GridEncoder,
    PooledEncoder,
    TextEncoder,
    TransformerTextEncoder,
)
from thalweg.models.sequences.memory import Memory, join_memories
from thalweg.models.sequences.recurrent import RecurrentDecoder, gru_lm, lstm_lm, rnn_lm
from thalweg.models.sequences.text_classifiers import (
    TextClassifier,
    text_gru,
    text_lstm,
    text_rnn,
    text_transformer,
)
from thalweg.models.sequences.transformer import TransformerDecoder, transformer_lm

__all__ = [
    "Decoder",
    "EncoderDecoder",
    "GridEncoder",
    "Memory",
    "PooledEncoder",
    "RecurrentDecoder",
    "State",
    "TextClassifier",
    "TextEncoder",
    "TransformerDecoder",
    "TransformerTextEncoder",
    "gru_lm",
    "gru_seq2seq",
    "join_memories",
    "lstm_lm",
    "lstm_seq2seq",
    "rnn_lm",
    "rnn_seq2seq",
    "text_gru",
    "text_lstm",
    "text_rnn",
    "text_transformer",
    "transformer_lm",
    "transformer_seq2seq",
]
