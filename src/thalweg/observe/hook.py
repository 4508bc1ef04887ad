"""A hook that never breaks the user's run and survives neither pickling nor copying."""

from collections.abc import Callable
from typing import Any

import torch

Failed = Callable[[str, Exception], None]


def inert(*_: object) -> None:
    """What a hook becomes in a copy of the model: the copy is not watched."""


class Hook:
    """Calls a function and reports what it raises; silent inside compiled code."""

    def __init__(self, function: Callable[..., None], failed: Failed) -> None:
        self._function, self._failed = function, failed

    def __call__(self, *arguments: Any) -> None:
        if torch.compiler.is_compiling():
            return
        try:
            self._function(*arguments)
        except Exception as error:  # the user's run goes on, whatever happens here
            self._failed("watch", error)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _inert, ()


def _inert() -> Callable[..., None]:
    return inert
