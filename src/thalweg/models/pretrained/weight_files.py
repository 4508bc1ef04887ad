"""Read weights from files: safetensors, or torch's own without running code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from thalweg.errors import DataError

M = TypeVar("M", bound=nn.Module)
Rename = Callable[[str], str]


def load_weights(
    model: M, path: str | Path, *, rename: Rename = str, skip: tuple[str, ...] = ()
) -> M:
    """Load the file's weights into the model and return it.

    `rename` turns the file's names into the model's; weights whose names begin with one of `skip`
    (a head for other classes, say) stay as they are. The prefix `module.` of DataParallel is
    removed. Raises: DataError, which names a weight whose name or shape does not fit.
    """
    stored = {rename(name.removeprefix("module.")): w for name, w in read_weights(path).items()}
    stored = {name: weight for name, weight in stored.items() if not name.startswith(skip or "\0")}
    own = model.state_dict()
    expected = {name for name in own if not name.startswith(skip or "\0")}
    _check_fit(path, own, expected=expected, stored=stored)
    model.load_state_dict(stored, strict=False)
    return model


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by name. Raises: DataError for a file without weights or one that runs code."""
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle, safetensors and the system: each raises its own type
        raise DataError(
            f"{path} cannot be read as weights",
            seen=f"{type(error).__name__}: {str(error)[:200]}",
            fix="a .safetensors file, or one that torch.save wrote from a state_dict",
        ) from error
    return _tensors(content, path)


def _tensors(content: Any, path: str | Path) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if isinstance(content, Mapping) and all(isinstance(w, Tensor) for w in content.values()):
        return dict(content)
    raise DataError(
        f"{path} contains no table of weights",
        seen=f"a {type(content).__name__}",
        fix="torch.save(model.state_dict(), path)",
    )


def _check_fit(
    path: str | Path, own: Mapping[str, Tensor], *, expected: set[str], stored: Mapping[str, Tensor]
) -> None:
    missing = expected - stored.keys()
    # old files lack batch norm's counters, which only its momentum=None reads
    missing = {name for name in missing if not name.endswith("num_batches_tracked")}
    unknown = stored.keys() - own.keys()
    shapes = {name for name in expected & stored.keys() if own[name].shape != stored[name].shape}
    if not (missing or unknown or shapes):
        return
    seen = [f"{len(missing)} missing", f"{len(unknown)} unknown", f"{len(shapes)} of other shape"]
    name = min(missing | unknown | shapes)
    pair = f"{shape_of(stored, name)} in the file, {shape_of(own, name)} in the model"
    raise DataError(
        f"the weights in {path} belong to another model",
        seen=f"{', '.join(seen)}; the first is {name}: {pair}",
        fix="build the model that was saved, with the same num_classes and input_shape",
    )


def shape_of(weights: Mapping[str, Tensor], name: str) -> str:
    """The shape, or "absent"."""
    return str(tuple(weights[name].shape)) if name in weights else "absent"
