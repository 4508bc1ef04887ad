"""Find the outermost module, called in training, that holds an optimizer's weights."""

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.observe.compiler import compiler_in_use
from thalweg.observe.ddp_outputs import module_in_ddp
from thalweg.observe.forward_hooks import is_redirected
from thalweg.observe.guard import Hook, ReportFailure

DEPTH = 3  # levels of submodules that a program may call in place of the whole
MOST_ARMED = 64
OnCall = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]


class RootFinder:
    """Puts a hook on the modules that may be called, until the first call with gradient."""

    def __init__(self, on_call: OnCall, report_failure: ReportFailure) -> None:
        self._on_call, self._report_failure = on_call, report_failure
        self._handles: dict[int, tuple[ref[nn.Module], RemovableHandle]] = {}

    def await_call(self, weights: Iterable[Tensor]) -> None:
        """Wait for a call of a module that holds one of these weights."""
        for top in modules_holding(weights):
            self._arm(top)

    def follow(self, parent: nn.Module, child: nn.Module) -> None:
        """Wait for the parent's call instead: it wraps a module that was waited for."""
        if id(child) in self._handles:
            self.forget([child])
            self._arm(parent)

    def forget(self, modules: Iterable[nn.Module]) -> None:
        """Wait for none of these any longer."""
        for module in modules:
            _, handle = self._handles.pop(id(module), (None, None))
            if handle is not None:
                handle.remove()

    def forget_all(self) -> None:
        """Remove every hook."""
        for _, handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def _arm(self, top: nn.Module) -> None:
        if compiler_in_use() and not is_compiled(top):
            return  # its hooks would be compiled; the first step of its optimizer shows it
        for module in list(_nested(top))[:MOST_ARMED]:
            if id(module) not in self._handles:
                hook = Hook(self._on_forward, self._report_failure)
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
                self._handles[id(module)] = ref(module), handle

    def _on_forward(self, module: nn.Module, inputs: Any, keywords: Any) -> None:
        if not torch.is_grad_enabled() or id(module) not in self._handles:
            return
        if not is_redirected(module_in_ddp(module)):  # to a training step, which calls the model
            self.forget(module.modules())
            self._on_call(module, inputs, keywords)


def modules_holding(weights: Iterable[Tensor]) -> list[nn.Module]:
    """The outermost modules of this process that hold one of the weights."""
    ids = {id(weight) for weight in weights}
    modules = live_modules()
    parents: dict[int, list[nn.Module]] = {}
    for module in modules:
        for child in _entries(module, "_modules"):
            parents.setdefault(id(child), []).append(module)
    queue = [m for m in modules if any(id(w) in ids for w in _entries(m, "_parameters"))]
    visited: dict[int, nn.Module] = {}
    while queue:
        module = queue.pop()
        if id(module) not in visited:
            visited[id(module)] = module
            queue += parents.get(id(module), ())
    return [module for key, module in visited.items() if key not in parents]


def live_modules() -> list[nn.Module]:
    """Every module in memory. Only types are looked at: an object may act when it is touched."""
    return [one for one in gc.get_objects() if issubclass(type(one), nn.Module)]


def is_compiled(module: nn.Module) -> bool:
    """True for the wrapper that torch.compile returns. Importing the compiler takes a second."""
    compiler = sys.modules.get("torch._dynamo")
    return compiler is not None and isinstance(module, compiler.OptimizedModule)


def _nested(module: nn.Module, depth: int = DEPTH) -> Iterator[nn.Module]:
    """The module and its submodules; of a compiled one nothing, since its parts are traced."""
    yield module
    if depth and not is_compiled(module):
        for child in _entries(module, "_modules"):
            if next(child.parameters(), None) is not None:
                yield from _nested(child, depth - 1)


def _entries(module: nn.Module, name: str) -> list[Any]:
    table = vars(module).get(name)  # None while the module is being made
    return [] if table is None else [one for one in table.values() if one is not None]
