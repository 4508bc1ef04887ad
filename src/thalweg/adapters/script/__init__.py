"""Watch a whole program without a changed line: `thalweg run`, and `watch_everything` in tests.

`torch_events` reports what the program does, `Session` finds the models and their optimizers among
it (`roots`), and a `Training` for each drives an ordinary watcher.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.adapters.script.session import Session, watch_everything

__all__ = ["Session", "watch_everything"]


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: the runner starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from thalweg.adapters.script import session

    return getattr(session, name)
