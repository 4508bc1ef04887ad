"""Check the input shape of an image architecture."""

from thalweg.errors import UsageError


def image_channels(input_shape: tuple[int, ...], *, model: str, least: int) -> int:
    """Return the channels of (channels, height, width).

    Raises: UsageError for vectors, and for images of fewer than `least` pixels a side.
    """
    if len(input_shape) != 3:
        raise UsageError(
            f"{model} reads images",
            seen=f"inputs of {len(input_shape)} dimension(s): {input_shape}",
            fix="model=mlp, or inputs of (channels, height, width)",
        )
    channels, height, width = input_shape
    if min(height, width) < least:
        raise UsageError(
            f"{model} needs images of at least {least} × {least} pixels",
            seen=f"{height} × {width}",
            fix=f"image_size={least} or more, or a model for small images, such as convnet",
        )
    return channels
