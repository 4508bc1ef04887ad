"""Any network of timm by its name there, as `timm:resnet18`; needs the extra `zoo`.

Nothing is fetched unless weights are asked for by name (`transfer.weights = timm`).
"""

from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from thalweg.errors import DataError, UnknownNameError, UsageError
from thalweg.models.pieces.image_shape import image_channels

PREFIX = "timm:"
LEAST = 32  # pixels; most of timm's networks halve five times


def timm_model(name: str) -> Callable[..., nn.Module]:
    """The builder of a network of timm, with fresh weights. `name` is `timm:` and timm's name.

    Raises: UsageError where timm is not installed or knows no such network.
    """
    own = _known(name)

    def build(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
        channels = image_channels(input_shape, model=name, least=LEAST)
        made = _timm().create_model(
            own, pretrained=False, num_classes=num_classes, in_chans=channels, **changes
        )
        assert isinstance(made, nn.Module), f"timm made no network of {name}"
        return made

    return build


def timm_format(name: str) -> dict[str, Any]:
    """image_size, mean and std that the network's weights in timm were trained with."""
    found = _timm().get_pretrained_cfg(_known(name))
    return {"image_size": found.input_size[-1], "mean": tuple(found.mean), "std": tuple(found.std)}


def timm_pretrained(name: str) -> dict[str, Tensor]:
    """The weights that timm publishes, fetched when they are not in its cache.

    Raises: DataError where they cannot be had.
    """
    try:
        found = _timm().create_model(_known(name), pretrained=True)
    except Exception as error:  # the network, the hub, a missing file: each raises its own
        raise DataError(
            f"the weights of {name} cannot be fetched",
            seen=f"{type(error).__name__}: {str(error)[:200]}",
            fix="connect once, so that they come into the cache, or --transfer.weights FILE",
        ) from error
    weights: dict[str, Tensor] = found.state_dict()
    return weights


def _known(name: str) -> str:
    own, timm = name.removeprefix(PREFIX), _timm()
    if own.startswith(("hf-hub:", "hf_hub:")) or timm.is_model(own):
        return own
    close = get_close_matches(own, timm.list_models(), n=3)
    raise UnknownNameError(
        f"timm has no model called {own!r}",
        seen=name,
        fix=f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them",
    )


def _timm() -> ModuleType:
    try:
        import timm  # late: it takes two seconds
    except ImportError as error:
        raise UsageError(
            "models of timm need the extra `zoo`", fix='pip install "thalweg[zoo]"'
        ) from error
    assert isinstance(timm, ModuleType)
    return timm
