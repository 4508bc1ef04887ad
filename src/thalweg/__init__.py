"""thalweg: trains neural networks, and knows why they don't train."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.api import (
        FailedRunError,
        InterruptedRunError,
        Progress,
        Run,
        cross_validate,
        diagnose,
        final,
        find_lr,
        forecast,
        generate,
        ladder,
        load,
        plan,
        predict,
        resume,
        train,
        watch,
    )
    from thalweg.curvature import critical_point, landscape, spectrum

__version__ = "0.1.0"
__all__ = [
    "FailedRunError",
    "InterruptedRunError",
    "Progress",
    "Run",
    "__version__",
    "critical_point",
    "cross_validate",
    "diagnose",
    "final",
    "find_lr",
    "forecast",
    "generate",
    "ladder",
    "landscape",
    "load",
    "plan",
    "predict",
    "resume",
    "spectrum",
    "train",
    "watch",
]
_CURVATURE = {"critical_point", "landscape", "spectrum"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `import thalweg` itself loads no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'thalweg' has no attribute {name!r}")
    from thalweg.loading import pause_collector

    with pause_collector():
        import_module("torch")  # nearly every public function needs it
        home = import_module("thalweg.curvature" if name in _CURVATURE else "thalweg.api")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
