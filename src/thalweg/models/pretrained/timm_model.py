"""Networks of timm by name, as `timm:resnet18`; they need the extra `zoo`.

Nothing is downloaded unless the recipe names the weights (`transfer.weights = timm`).
"""

from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from thalweg.errors import DataError, UnknownNameError, UsageError
from thalweg.models.pieces.image_shape import image_channels

PREFIX = "timm:"
MIN_SIDE = 32  # pixels; most of timm's networks halve the resolution five times


def timm_model(name: str) -> Callable[..., nn.Module]:
    """A builder of timm's network with fresh weights; `name` is `timm:` and timm's name.

    Raises: UsageError if timm is not installed; UnknownNameError for a name unknown to timm.
    """
    timm_name = _timm_name(name)

    def build(num_classes: int, *, input_shape: tuple[int, ...], **changes: Any) -> nn.Module:
        channels = image_channels(input_shape, model=name, least=MIN_SIDE)
        model = _timm().create_model(
            timm_name, pretrained=False, num_classes=num_classes, in_chans=channels, **changes
        )
        assert isinstance(model, nn.Module), f"timm built no network for {name}"
        return model

    return build


def timm_input_format(name: str) -> dict[str, Any]:
    """image_size, mean and std that timm's weights were trained with."""
    config = _timm().get_pretrained_cfg(_timm_name(name))
    mean, std = tuple(config.mean), tuple(config.std)
    return {"image_size": config.input_size[-1], "mean": mean, "std": std}


def timm_weights(name: str) -> dict[str, Tensor]:
    """The weights that timm publishes, downloaded unless they are in its cache.

    Raises: DataError if the download fails.
    """
    try:
        model = _timm().create_model(_timm_name(name), pretrained=True)
    except Exception as error:  # the network, the hub, a missing file: each raises its own type
        raise DataError(
            f"the weights of {name} cannot be downloaded",
            seen=f"{type(error).__name__}: {str(error)[:200]}",
            fix="connect once to fill timm's cache, or use --transfer.weights FILE",
        ) from error
    weights: dict[str, Tensor] = model.state_dict()
    return weights


def _timm_name(name: str) -> str:
    timm_name, timm = name.removeprefix(PREFIX), _timm()
    if timm_name.startswith(("hf-hub:", "hf_hub:")) or timm.is_model(timm_name):
        return timm_name
    close = get_close_matches(timm_name, timm.list_models(), n=3)
    raise UnknownNameError(
        f"timm has no model called {timm_name!r}",
        seen=name,
        fix=f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them",
    )


def _timm() -> ModuleType:
    try:
        import timm  # late: the import takes two seconds
    except ImportError as error:
        raise UsageError(
            "models of timm need the extra `zoo`", fix='pip install "thalweg[zoo]"'
        ) from error
    assert isinstance(timm, ModuleType)
    return timm
