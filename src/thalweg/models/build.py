"""Build a network from its name and its settings."""

from collections.abc import Mapping

from torch import nn

from thalweg.errors import UsageError
from thalweg.models import MODELS
from thalweg.recipes.key import check_magnitude

WIDEST = 2**20
DEEPEST = 10_000  # layers or blocks
DEPTHS = frozenset({"depth", "layers", "blocks", "num_layers"})


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
    _check_settings(name, changes)
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


def _check_settings(name: str, changes: Mapping[str, object]) -> None:
    """Raise UsageError for a number that no network is built with, before it fills the memory."""
    for key, value in changes.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        most = DEEPEST if key in DEPTHS else WIDEST
        if not abs(value) <= most:
            if isinstance(value, int):  # one of 400 digits cannot be written as a float
                check_magnitude(value, float, name=key)
            raise UsageError(
                f"{name} cannot be built with {key} = {value:g}",
                seen=f"at most {most:,}",
                fix=f"see `thalweg model {name}` and docs/reference/models.md",
            )
