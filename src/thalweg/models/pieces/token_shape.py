"""Check the input shape of a language model."""

from thalweg.errors import UsageError


def context_length(input_shape: tuple[int, ...], *, model: str) -> int:
    """Return the tokens of a sample, whose shape is (tokens,).

    Raises: UsageError for images.
    """
    if len(input_shape) != 1:
        raise UsageError(
            f"{model} reads texts",
            seen=f"inputs of {len(input_shape)} dimensions: {input_shape}",
            fix="model=convnet or another network for images; `thalweg model` lists all",
        )
    return input_shape[0]
