"""Hooks on the user's model, weights and optimizers: for the step of one reading, then removed."""

import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from thalweg.observe.forward_pass import ForwardPass, capture
from thalweg.observe.guard import Hook, ReportFailure

NamedWeights = list[tuple[str, nn.Parameter]]
OnUpdate = Callable[[Optimizer, NamedWeights, list[Tensor] | None], None]
OnForward = Callable[[ForwardPass], None]


class StepHooks:
    """Collect what one step shows; compute nothing that a reading does not need."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        *,
        keeps_weights: bool,
        on_update: OnUpdate,
        report_failure: ReportFailure,
        on_first_forward: OnForward | None = None,
        thorough: bool = True,
    ) -> None:
        self.forward: ForwardPass | None = None  # the last one with gradient
        self.leftover_norms: dict[str, Tensor | float] = {}
        self.called: set[str] = set()
        self.began, self.forward_at = perf_counter(), float("nan")
        self._model, self._keeps_weights = model, keeps_weights
        self._on_update, self._on_first_forward = on_update, on_first_forward
        self._report_failure = report_failure
        self._copies: dict[int, list[Tensor]] = {}  # by optimizer: its weights before the update
        self._weights: dict[int, NamedWeights] = {}
        self._handles = [
            model.register_forward_pre_hook(self._guarded(self._before_forward)),
            model.register_forward_hook(
                self._guarded(self._after_forward), with_kwargs=True, always_call=False
            ),
        ]
        if thorough:
            self._hook_modules()
            self._hook_weights()
        for optimizer in optimizers:
            self._handles += [
                optimizer.register_step_pre_hook(self._guarded(self._before_update)),
                optimizer.register_step_post_hook(self._guarded(self._after_update)),
            ]

    def remove(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _guarded(self, function: Callable[..., None]) -> Hook:
        return Hook(function, self._report_failure)

    def _hook_modules(self) -> None:
        if _is_compiled(self._model):
            return  # hooks inside a compiled model would have it compiled anew
        for name, module in self._model.named_modules():
            if module is not self._model and module._parameters:
                hook = self._guarded(partial(self._note_call, name))
                self._handles.append(module.register_forward_hook(hook))

    def _hook_weights(self) -> None:
        for name, weight in self._model.named_parameters():
            if weight.requires_grad:
                hook = self._guarded(partial(self._before_accumulation, name, weight))
                self._handles.append(weight.register_hook(hook))

    def _note_call(self, name: str, *_: object) -> None:
        self.called.add(name)

    def _before_forward(self, *_: object) -> None:
        if self.forward_at != self.forward_at:  # NaN: the first forward pass of this step
            self.forward_at = perf_counter()

    def _after_forward(self, model: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self.forward = capture(model, inputs, keywords, output=output)
            if self._on_first_forward is not None:
                on_first_forward, self._on_first_forward = self._on_first_forward, None
                on_first_forward(self.forward)

    def _before_accumulation(self, name: str, weight: nn.Parameter, _gradient: Tensor) -> None:
        leftover = 0.0 if weight.grad is None else weight.grad.detach().norm()
        least = self.leftover_norms.get(name)
        if least is None or (isinstance(leftover, float) and leftover == 0.0):
            self.leftover_norms[name] = leftover
        elif isinstance(least, Tensor) and isinstance(leftover, Tensor):
            self.leftover_norms[name] = torch.minimum(least, leftover)

    def _before_update(self, optimizer: Optimizer, *_: object) -> None:
        weights = self._weights[id(optimizer)] = self._weights_of(optimizer)
        if self._keeps_weights:
            self._copies[id(optimizer)] = [weight.detach().clone() for _, weight in weights]

    def _after_update(self, optimizer: Optimizer, *_: object) -> None:
        weights = self._weights.pop(id(optimizer), None)  # None: the watch began in this update
        copies = self._copies.pop(id(optimizer), None)
        self._on_update(
            optimizer, self._weights_of(optimizer) if weights is None else weights, copies
        )

    def _weights_of(self, optimizer: Optimizer) -> NamedWeights:
        ids = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        return [(n, w) for n, w in self._model.named_parameters() if id(w) in ids]


class ValidationHook:
    """Notes the next forward pass without gradient: it shows in which mode validation runs."""

    def __init__(self, model: nn.Module, report_failure: ReportFailure) -> None:
        self.forward: ForwardPass | None = None
        self._model, self._report_failure = model, report_failure
        self._handle: RemovableHandle | None = None

    def start(self) -> None:
        """Wait for the next pass without gradient."""
        if self._handle is None:
            hook = Hook(self._after_forward, self._report_failure)
            self._handle = self._model.register_forward_hook(hook, with_kwargs=True)

    def stop(self) -> None:
        """Remove the hook."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _after_forward(self, model: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            self.forward = capture(model, inputs, keywords, output=output)
            self.stop()


def _is_compiled(model: nn.Module) -> bool:
    """True after torch.compile(model) or model.compile(). Importing the compiler takes 1 s."""
    if "torch._dynamo" not in sys.modules:
        return False
    wrapped = isinstance(model, torch._dynamo.OptimizedModule)
    return wrapped or model._compiled_call_impl is not None
