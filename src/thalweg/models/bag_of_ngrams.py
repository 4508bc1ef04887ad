"""A network for texts: a weight for each n-gram and output, beside a table's network for columns.

The weighted sum of n-grams is the linear model of fastText, Joulin et al. 2017, arXiv:1607.01759
§2, without its hidden layer: https://doi.org/10.18653/v1/P12-2018 (Wang & Manning 2012) shows how
strong linear models of words and their neighbours are.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from thalweg.models.tabular import tabular

FIRST = 1e-3  # of the first weights, so that the first loss is chance
SCALE = 3.0  # of the n-grams' weights, whose squares sum to 2: Adam's steps are of one size


class BagOfNgrams(nn.Module):
    """Sums the outputs of a text's n-grams; order matters within an n-gram alone."""

    def __init__(self, outputs: int, *, vocabulary: int, columns: nn.Module | None = None) -> None:
        super().__init__()
        self.ngrams = nn.EmbeddingBag(vocabulary, outputs, mode="sum", padding_idx=0)
        nn.init.normal_(self.ngrams.weight, std=FIRST)  # an n-gram says next to nothing at first
        with torch.no_grad():
            self.ngrams.weight[0] = 0  # of padding
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.columns = columns

    def forward(
        self,
        ngrams: Int64[Tensor, "batch entry"],
        weights: Float[Tensor, "batch entry"],
        tokens: Int64[Tensor, "batch time"] | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
        columns: Float[Tensor, "batch input"] | None = None,
    ) -> Float[Tensor, "batch output"]:
        scaled = (SCALE * weights).to(self.ngrams.weight.dtype)
        outputs = self.ngrams(ngrams, per_sample_weights=scaled) + self.bias
        if self.columns is None:
            return outputs
        return outputs + self.columns(columns)


def bag_of_ngrams(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    columns: int = 0,
    numbers: int = 0,
    bins: int = 0,
    categories: str = "",
    width: int = 128,
    depth: int = 2,
    dropout: float = 0.0,
) -> BagOfNgrams:
    """A weight for each n-gram and output; `input_shape` is the size of the vocabulary.

    Where there are `columns` inputs beside the text, the outputs of a `tabular` network with the
    other settings are added.
    """
    beside = None
    if columns:
        beside = tabular(
            num_classes,
            input_shape=(columns,),
            numbers=numbers,
            bins=bins,
            categories=categories,
            width=width,
            depth=depth,
            dropout=dropout,
        )
    return BagOfNgrams(num_classes, vocabulary=max(1, input_shape[0]), columns=beside)
