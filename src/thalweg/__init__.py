"""thalweg: trains neural networks, and knows why they don't train."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from thalweg.api import (
        Run,
        cross_validate,
        diagnose,
        final,
        ladder,
        load,
        predict,
        train,
        watch,
    )
    from thalweg.curvature import critical_point, landscape, spectrum

_HOME = {
    "Run": "thalweg.api",
    "critical_point": "thalweg.curvature",
    "cross_validate": "thalweg.api",
    "diagnose": "thalweg.api",
    "final": "thalweg.api",
    "ladder": "thalweg.api",
    "landscape": "thalweg.curvature",
    "load": "thalweg.api",
    "predict": "thalweg.api",
    "spectrum": "thalweg.curvature",
    "train": "thalweg.api",
    "watch": "thalweg.api",
}
__all__ = [
    "Run",
    "__version__",
    "critical_point",
    "cross_validate",
    "diagnose",
    "final",
    "ladder",
    "landscape",
    "load",
    "predict",
    "spectrum",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `import thalweg` itself loads no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'thalweg' has no attribute {name!r}")
    from thalweg.loading import loading

    with loading():
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
