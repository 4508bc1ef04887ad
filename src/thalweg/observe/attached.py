"""The hooks of one reading: put on before the step that is to be read, taken off after it."""

import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from thalweg.observe.capture import Pass, capture
from thalweg.observe.guard import Failed, Hook

Updated = Callable[[Optimizer, list[tuple[str, nn.Parameter]], list[Tensor] | None], None]


class Attached:
    """Collects what one step shows; nothing is computed that a reading does not need."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        *,
        keeps_weights: bool,
        updated: Updated,
        failed: Failed,
        first: Callable[[Pass], None] | None = None,
        thorough: bool = True,
    ) -> None:
        self._first = first  # told of the first pass, before anything has been updated
        self.last: Pass | None = None
        self.leftovers: dict[str, Tensor | float] = {}
        self.called: set[str] = set()
        self.began, self.forward_at = perf_counter(), float("nan")
        self._model, self._keeps, self._updated = model, keeps_weights, updated
        self._failed = failed
        self._kept: dict[int, list[Tensor]] = {}
        self._held_by: dict[int, list[tuple[str, nn.Parameter]]] = {}
        self._handles = [
            model.register_forward_pre_hook(Hook(self._before_forward, failed)),
            model.register_forward_hook(
                Hook(self._after_forward, failed), with_kwargs=True, always_call=False
            ),
        ]
        if thorough:
            self._on_modules()
            self._on_weights()
        for optimizer in optimizers:
            self._handles += [
                optimizer.register_step_pre_hook(Hook(self._before_update, failed)),
                optimizer.register_step_post_hook(Hook(self._after_update, failed)),
            ]

    def detach(self) -> None:
        """Take every hook off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _on_modules(self) -> None:
        if _is_compiled(self._model):
            return  # hooks inside a compiled model would have it compiled anew
        for name, module in self._model.named_modules():
            if module is not self._model and module._parameters:
                hook = Hook(partial(self._note_call, name), self._failed)
                self._handles.append(module.register_forward_hook(hook))

    def _on_weights(self) -> None:
        for name, weight in self._model.named_parameters():
            if weight.requires_grad:
                hook = Hook(partial(self._before_accumulation, name, weight), self._failed)
                self._handles.append(weight.register_hook(hook))

    def _note_call(self, name: str, *_: object) -> None:
        self.called.add(name)

    def _before_forward(self, *_: object) -> None:
        if self.forward_at != self.forward_at:  # NaN: the first forward pass of this step
            self.forward_at = perf_counter()

    def _after_forward(self, model: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self.last = capture(model, inputs, keywords, output=output)
            if self._first is not None:
                first, self._first = self._first, None
                first(self.last)

    def _before_accumulation(self, name: str, weight: nn.Parameter, _gradient: Tensor) -> None:
        there = weight.grad
        left = 0.0 if there is None else there.detach().norm()
        known = self.leftovers.get(name)
        if known is None or (isinstance(left, float) and left == 0.0):
            self.leftovers[name] = left
        elif isinstance(known, Tensor) and isinstance(left, Tensor):
            self.leftovers[name] = torch.minimum(known, left)

    def _before_update(self, optimizer: Optimizer, *_: object) -> None:
        held = self._held_by[id(optimizer)] = self._held(optimizer)
        if self._keeps:
            self._kept[id(optimizer)] = [weight.detach().clone() for _, weight in held]

    def _after_update(self, optimizer: Optimizer, *_: object) -> None:
        held = self._held_by.pop(id(optimizer), None)  # None: the watch began within this update
        kept = self._kept.pop(id(optimizer), None)
        self._updated(optimizer, self._held(optimizer) if held is None else held, kept)

    def _held(self, optimizer: Optimizer) -> list[tuple[str, nn.Parameter]]:
        ids = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        return [(n, w) for n, w in self._model.named_parameters() if id(w) in ids]


class ValidationWatch:
    """Looks at passes without gradient: in which mode validation runs."""

    def __init__(self, model: nn.Module, failed: Failed) -> None:
        self.seen: Pass | None = None
        self._model, self._failed = model, failed
        self._handle: RemovableHandle | None = None
        self.start()

    def start(self) -> None:
        """Look out for the next pass without gradient."""
        if self._handle is None:
            hook = Hook(self._after_forward, self._failed)
            self._handle = self._model.register_forward_hook(hook, with_kwargs=True)

    def stop(self) -> None:
        """Stop looking."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _after_forward(self, model: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            self.seen = capture(model, inputs, keywords, output=output)
            self.stop()


def _is_compiled(model: nn.Module) -> bool:
    """By torch.compile(model), or by model.compile(). Importing the compiler to ask takes 1 s."""
    if "torch._dynamo" not in sys.modules:
        return False
    wrapped = isinstance(model, torch._dynamo.OptimizedModule)
    return wrapped or model._compiled_call_impl is not None
