"""The shape of a pair of sequences, which networks for pairs are built for."""

from typing import NamedTuple

from thalweg.errors import UsageError


class PairShape(NamedTuple):
    """The longest source and target, and the size of the source's vocabulary."""

    source: int  # tokens
    target: int  # tokens, with the border
    vocabulary: int  # of the source, with the padding


def pair_shape(input_shape: tuple[int, ...], *, model: str) -> PairShape:
    """The shape of pairs. Raises: UsageError for inputs that are no pairs, such as images."""
    if len(input_shape) != 3 or min(input_shape) < 1 or input_shape[2] < 2:
        raise _no_pairs(input_shape, model)
    return PairShape(*input_shape)


def _no_pairs(input_shape: tuple[int, ...], model: str) -> UsageError:
    return UsageError(
        f"{model} reads pairs of sequences",
        seen=f"inputs of {' × '.join(map(str, input_shape))}",
        fix="a table of two columns of texts, or a network for these inputs: thalweg model",
    )
