"""A hook that keeps nothing alive and survives neither pickling nor copying."""

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import torch


def inert(*_: object) -> None:
    """What a hook becomes in a copy of the model: the copy is not watched."""


class Hook:
    """Calls a method for as long as its owner lives; silent inside compiled code."""

    def __init__(self, method: Callable[..., None]) -> None:
        self._method = WeakMethod(method)

    def __call__(self, *arguments: Any) -> None:
        if torch.compiler.is_compiling():
            return
        method = self._method()
        if method is not None:
            method(*arguments)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _inert, ()


def _inert() -> Callable[..., None]:
    return inert
