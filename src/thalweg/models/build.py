"""Build a network from its name and its settings."""

from collections.abc import Mapping

from torch import nn

from thalweg.errors import UsageError
from thalweg.models import MODELS


def build_model(
    name: str,
    outputs: int,
    *,
    input_shape: tuple[int, ...],
    changes: Mapping[str, int | float | str | bool],
) -> nn.Module:
    """Build the network with fresh weights.

    Raises: UnknownNameError for an unknown name; UsageError for settings that do not fit.
    """
    build = MODELS[name]
    try:
        model = build(outputs, input_shape=input_shape, **changes)
    except UsageError:
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise UsageError(
            f"{name} cannot be built with these settings",
            seen=f"{dict(changes)}: {error}",
            fix=f"see `thalweg model {name}` and docs/reference/models.md",
        ) from error
    assert isinstance(model, nn.Module), f"{name} does not build a network"
    return model
