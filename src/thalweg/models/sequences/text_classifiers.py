"""Networks that read the words of a text in order, and then classify or value it."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from thalweg.models.sequences.encoders import TextEncoder, TransformerTextEncoder

LEAST_WORDS = 3  # numbers: padding, one word, any other word


class TextClassifier(nn.Module):
    """An encoder of words, the mean or summary of what it says, and a linear head.

    Columns beside the text join its summary.
    """

    def __init__(
        self, encoder: TextEncoder | TransformerTextEncoder, outputs: int, *, columns: int = 0
    ) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.width
        self.columns = nn.Linear(columns, width) if columns else None
        self.head = nn.Linear(width * (1 + bool(columns)), outputs)
        nn.init.normal_(self.head.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        tokens: Int64[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
        ngrams: Int64[Tensor, "batch entry"] | None = None,
        weights: Float[Tensor, "batch entry"] | None = None,
        columns: Float[Tensor, "batch input"] | None = None,
    ) -> Float[Tensor, "batch output"]:
        features = self.encoder(tokens, mask).mean()
        if self.columns is not None:
            features = torch.cat([features, torch.relu(self.columns(columns))], dim=1)
        return self.head(features)


def _recurrent(
    cell: str,
    num_classes: int,
    *,
    words: int,
    columns: int,
    width: int,
    depth: int,
    dropout: float,
) -> TextClassifier:
    encoder = TextEncoder(
        max(words, LEAST_WORDS), width=width, depth=depth, cell=cell, dropout=dropout
    )
    return TextClassifier(encoder, num_classes, columns=columns)


def text_rnn(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    words: int = 10_000,
    columns: int = 0,
    width: int = 128,
    depth: int = 1,
    dropout: float = 0.3,
) -> TextClassifier:
    """A recurrent network over the words of a text in both directions: Elman 1990.

    `words` is the size of the vocabulary, `columns` the number of inputs beside the text.
    """
    return _recurrent(
        "rnn",
        num_classes,
        words=words,
        columns=columns,
        width=width,
        depth=depth,
        dropout=dropout,
    )


def text_lstm(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    words: int = 10_000,
    columns: int = 0,
    width: int = 128,
    depth: int = 1,
    dropout: float = 0.3,
) -> TextClassifier:
    """LSTM over the words of a text in both directions: Hochreiter & Schmidhuber 1997."""
    return _recurrent(
        "lstm",
        num_classes,
        words=words,
        columns=columns,
        width=width,
        depth=depth,
        dropout=dropout,
    )


def text_gru(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    words: int = 10_000,
    columns: int = 0,
    width: int = 128,
    depth: int = 1,
    dropout: float = 0.3,
) -> TextClassifier:
    """GRU over the words of a text in both directions: Cho et al. 2014, arXiv:1406.1078."""
    return _recurrent(
        "gru",
        num_classes,
        words=words,
        columns=columns,
        width=width,
        depth=depth,
        dropout=dropout,
    )


def text_transformer(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    words: int = 10_000,
    columns: int = 0,
    width: int = 128,
    depth: int = 2,
    heads: int = 4,
    dropout: float = 0.3,
) -> TextClassifier:
    """Transformer blocks in which all words of a text see each other; their mean is classified."""
    encoder = TransformerTextEncoder(
        max(words, LEAST_WORDS), width=width, depth=depth, heads=heads, dropout=dropout
    )
    return TextClassifier(encoder, num_classes, columns=columns)
