"""Report what a program does with PyTorch: its optimizers, backward passes, batches and modules.

Nothing of the program's is replaced by a function of ours that calls it: a traceback of the
program holds no frame of thalweg, and compiled code traces what it would have traced. Two
attributes become properties instead: reading the engine's `run_backward` shows the arguments in
the frame that reads it, and so does setting the counter of a loader's batches.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from types import FrameType
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.variable import Variable
from torch.nn.modules.module import register_module_module_registration_hook
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import dataloader

from thalweg.adapters.script.loaders import LoaderParts
from thalweg.observe.bare_copy import HOOK_TABLES
from thalweg.observe.guard import Hook
from thalweg.observe.script_shield import SHIELD

OURS = ("thalweg.observe", "thalweg.curvature", "thalweg.borrow", "thalweg.training")


@runtime_checkable
class Listener(Protocol):
    """Receives the events. May raise: its exceptions go to `report_failure`."""

    def on_weights_added(self, optimizer: Optimizer) -> None: ...
    def on_module_registered(self, parent: nn.Module, child: nn.Module) -> None: ...
    def on_backward(self, loss: Tensor, *, accumulates: bool) -> None: ...
    def on_step_begin(self, optimizer: Optimizer) -> None: ...
    def on_step_end(self, optimizer: Optimizer) -> None: ...
    def on_batch(self, loader: LoaderParts, batch: Any) -> None: ...
    def on_scaled_loss(self, scaled: Tensor, loss: Tensor) -> None: ...
    def report_failure(self, part: str, error: Exception) -> None: ...


@contextmanager
def torch_events(listener: Listener) -> Iterator[None]:
    """Send the events of this process to the listener while the block runs; not its children's."""
    events = _Events(listener)
    with ExitStack() as undo:
        for install in (
            events.watch_optimizers,
            events.watch_modules,
            events.watch_backward,
            events.watch_batches,
            events.watch_scaler,
        ):
            try:
                install(undo)
            except Exception as error:  # another version of torch: less is seen
                listener.report_failure(install.__name__, error)
        yield


class _Events:
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._process = os.getpid()
        self._loaders: WeakKeyDictionary[Any, LoaderParts] = WeakKeyDictionary()  # by iterator

    def watch_optimizers(self, undo: ExitStack) -> None:
        listener = self._listener

        def on_begin(optimizer: Optimizer, *_: object) -> None:
            self._send("step", listener.on_step_begin, optimizer)

        def on_end(optimizer: Optimizer, *_: object) -> None:
            self._send("step", listener.on_step_end, optimizer)

        begin, end = (Hook(event, listener.report_failure) for event in (on_begin, on_end))
        undo.callback(register_optimizer_step_pre_hook(begin).remove)
        undo.callback(register_optimizer_step_post_hook(end).remove)
        add_param_group = Optimizer.add_param_group

        @wraps(add_param_group)
        def add_and_report(self_: Optimizer, param_group: dict[str, Any]) -> None:
            add_param_group(self_, param_group)
            self._send("weights", listener.on_weights_added, self_)

        _replace(undo, Optimizer, add_param_group=add_and_report)

    def watch_modules(self, undo: ExitStack) -> None:
        def on_registration(parent: nn.Module, _name: str, child: Any) -> None:
            if isinstance(child, nn.Module):
                self._send("modules", self._listener.on_module_registered, parent, child)

        undo.callback(register_module_module_registration_hook(on_registration).remove)
        SHIELD.enable()
        undo.callback(SHIELD.disable)
        get_state: Any = nn.Module.__getstate__

        @wraps(get_state)
        def state_without_our_hooks(module: nn.Module) -> Any:
            return _without_our_hooks(get_state(module))

        _replace(undo, nn.Module, __getstate__=state_without_our_hooks)

    def watch_backward(self, undo: ExitStack) -> None:
        engine = Variable._execution_engine
        on_backward = self._on_backward

        class Engine(type(engine)):  # type: ignore[misc]
            @property
            def run_backward(self) -> Any:
                on_backward(_frame_in("torch.autograd.graph"))
                return super().run_backward

        _replace(undo, Variable, _execution_engine=Engine())

    def watch_batches(self, undo: ExitStack) -> None:
        on_batch, key = self._on_batch, "_num_yielded"

        def count(iterator: Any, number: int) -> None:
            vars(iterator)[key] = number
            on_batch(iterator, _frame_in("torch.utils.data.dataloader"))

        iterators = dataloader._BaseDataLoaderIter
        counter = property(lambda iterator: vars(iterator)[key], count)
        setattr(iterators, key, counter)
        undo.callback(delattr, iterators, key)

    def watch_scaler(self, undo: ExitStack) -> None:
        scaler = torch.amp.GradScaler
        scale = scaler.scale

        @wraps(scale)
        def scale_and_report(self_: Any, outputs: Any) -> Any:
            scaled = scale(self_, outputs)
            if isinstance(outputs, Tensor) and scaled is not outputs:
                self._send("scaler", self._listener.on_scaled_loss, scaled, outputs)
            return scaled

        _replace(undo, scaler, scale=scale_and_report)

    def _on_backward(self, caller: FrameType | None) -> None:
        if caller is None:
            return
        try:
            tensors = caller.f_locals.get("t_outputs") or ()
            accumulates = bool(caller.f_locals.get("kwargs", {}).get("accumulate_grad"))
            nested = torch._C._current_graph_task_id() != -1  # of a checkpoint, within a backward
            if nested or not tensors or not isinstance(tensors[0], Tensor) or _is_ours(caller):
                return
        except Exception as error:
            self._listener.report_failure("backward", error)
            return
        self._send("backward", self._listener.on_backward, tensors[0], accumulates=accumulates)

    def _on_batch(self, iterator: Any, caller: FrameType | None) -> None:
        variables = {} if caller is None else caller.f_locals
        if "loader" in variables:
            self._loaders[iterator] = LoaderParts(variables["loader"])
        if "data" in variables and iterator in self._loaders:
            loader = self._loaders[iterator]
            self._send("batch", self._listener.on_batch, loader, variables["data"])

    def _send(self, part: str, event: Callable[..., None], *content: Any, **named: Any) -> None:
        if os.getpid() != self._process or torch.compiler.is_compiling():
            return  # a forked child is not watched
        try:
            event(*content, **named)
        except Exception as error:  # the program goes on, whatever happens here
            self._listener.report_failure(part, error)


def _without_our_hooks(state: Any) -> Any:
    """The state of a module for a file or a copy, which must not need thalweg."""
    if not isinstance(state, dict):
        return state
    tables = {name: state[name] for name in HOOK_TABLES if state.get(name)}
    ours = {  # numbers that are used once in a process, also in the tables of flags
        key for hooks in tables.values() for key, hook in hooks.items() if isinstance(hook, Hook)
    }
    for name, hooks in tables.items() if ours else ():
        others = ((key, hook) for key, hook in hooks.items() if key not in ours)
        state = state | {name: type(hooks)(others)}
    return state


def _frame_in(module: str) -> FrameType | None:
    """The innermost running function of that module."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame


def _is_ours(frame: FrameType | None) -> bool:
    """True if an instrument of ours called this: it differentiates for itself."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(OURS):
            return True
        frame = frame.f_back
    return False


def _replace(undo: ExitStack, owner: Any, **attribute: Any) -> None:
    for name, value in attribute.items():
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)
