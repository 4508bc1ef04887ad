"""Hooks on the user's model, weights and optimizers: for the step of one reading, then removed."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.bare_copy import bare_module, named_weights
from thalweg.observe.cleared_passes import ClearedPasses
from thalweg.observe.compiler import compiler_in_use
from thalweg.observe.forward_hooks import CallHooks, Remove
from thalweg.observe.forward_pass import ForwardPass, capture
from thalweg.observe.guard import Hook, ReportFailure
from thalweg.observe.local_shard import local_gradient
from thalweg.observe.pass_marks import mark_pass
from thalweg.observe.readable_weight import is_readable
from thalweg.observe.update_hooks import UpdateHooks, do_nothing

OnForward = Callable[[ForwardPass], None]


class StepHooks:
    """Collect what one step shows; compute nothing that a reading does not need."""

    def __init__(
        self,
        model: nn.Module,
        updates: UpdateHooks,
        *,
        calls: CallHooks,
        report_failure: ReportFailure,
        on_first_update: OnForward | None = None,
        thorough: bool = True,
    ) -> None:
        self.forward: ForwardPass | None = None  # the last one with gradient
        self.updates = updates
        self.leftover_norms: dict[str, Tensor | float] = {}
        self.called: set[str] = set()
        self.called_with_gradient: set[str] = set()
        self.forwards = 0
        self.outputs: list[Tensor] = []  # some entries of the first passes' outputs
        self.backwards: Counter[str] = Counter()  # by weight: the gradients that arrived
        self.cleared = ClearedPasses()
        named = named_weights(model)
        self.trainable = frozenset(name for name, weight in named if weight.requires_grad)
        self.began, self.forward_at = perf_counter(), float("nan")
        self._model, self._report_failure = model, report_failure
        self._on_first_update = on_first_update
        self._updates_began = not updates.is_hooked  # with a closure, before its forward pass
        updates.on_begin = self._begin_first_update
        self._removes = [calls.listen(before=self._before_forward, after=self._after_forward)]
        self._hooks_modules = self._thorough = thorough
        if thorough:
            self._hook_weights()
            if on_first_update is None:  # else it may be compiled yet, before it is first called
                self._hook_modules()

    def finish(self) -> None:
        """Measure the updates that no hook has seen: the loop's step is over."""
        self.updates.finish()

    def arrived(self) -> frozenset[str] | None:
        """The weights that a gradient reached; None where no hook ran and no gradient is left."""
        left = {name for name, weight in named_weights(self._model) if weight.grad is not None}
        arrived = frozenset(self.leftover_norms.keys() | self.updates.with_gradient | left)
        return arrived if arrived or self.updates.ran_in_hook else None

    def remove(self) -> None:
        """Remove the hooks from model and weights; those of the optimizers wait for an update."""
        for remove in self._removes:
            remove()
        self._removes = []
        if self._on_first_update is None:
            self.updates.on_begin = do_nothing  # else they hold each other, and the pass with them

    def _guarded(self, function: Callable[..., None]) -> Hook:
        return Hook(function, self._report_failure)

    def _hook_modules(self) -> None:
        self._hooks_modules = False
        if compiler_in_use():
            return  # a hook inside a compiled region would have it compiled anew
        model = bare_module(self._model)
        for name, module in model.named_modules():
            scripted = isinstance(module, torch.jit.ScriptModule)  # takes no hooks
            if module is not model and not scripted and module._parameters:
                hook = self._guarded(partial(self._note_call, name))
                self._removes.append(module.register_forward_hook(hook).remove)

    def _hook_weights(self) -> None:
        for name, weight in named_weights(self._model):
            if weight.requires_grad and is_readable(weight):
                hook = self._guarded(partial(self._before_accumulation, name, weight))
                self._removes.append(weight.register_hook(hook).remove)

    def _note_call(self, name: str, *_: object) -> None:
        self.called.add(name)
        if torch.is_grad_enabled():
            self.called_with_gradient.add(name)

    def _before_forward(self) -> None:
        if self._hooks_modules:
            self._hook_modules()
        if self.forward_at != self.forward_at:  # NaN: the first forward pass of this step
            self.forward_at = perf_counter()

    def _after_forward(self, model: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self.forwards += 1
            self.forward = capture(model, inputs, keywords, output=output)
            if self.forward.hook is not None:
                self._removes.append(self.forward.hook.remove)
            if self._thorough:
                self.cleared.note_inputs(self.forward.first_input, (inputs, keywords))
                mark_pass(self.outputs, self.forward.output_node, output)
            if self._updates_began:
                self._begin_first_update()

    def _begin_first_update(self) -> None:
        """Show the model as initialised: after the backward pass, which frees what it needed."""
        self._updates_began = True
        if self._thorough:
            weights = named_weights(self._model)
            self.cleared.note_update({name: weight.grad for name, weight in weights})
        if self._on_first_update is not None and self.forward is not None:
            on_first_update, self._on_first_update = self._on_first_update, None
            on_first_update(self.forward)

    def _before_accumulation(self, name: str, weight: Tensor, arriving: Tensor) -> None:
        self.backwards[name] += 1
        gradient = local_gradient(weight)
        leftover = 0.0 if gradient is None else gradient.detach().norm()
        self.cleared.note_gradient(name, weight, leftover=leftover, gradient=arriving)
        least = self.leftover_norms.get(name)
        if least is None or (isinstance(leftover, float) and leftover == 0.0):
            self.leftover_norms[name] = leftover
        elif isinstance(least, Tensor) and isinstance(leftover, Tensor):
            self.leftover_norms[name] = torch.minimum(least, leftover)


class ValidationHook:
    """Notes the next forward pass without gradient: it shows in which mode validation runs."""

    def __init__(self, calls: CallHooks) -> None:
        self.forward: ForwardPass | None = None
        self._calls = calls
        self._remove: Remove | None = None

    def start(self) -> None:
        """Wait for the next pass without gradient."""
        if self._remove is None:
            self._remove = self._calls.listen(after=self._after_forward)

    def stop(self) -> None:
        """Wait no longer."""
        if self._remove is not None:
            self._remove()
            self._remove = None

    def _after_forward(self, model: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            forward = capture(model, inputs, keywords, output=output)
            self.forward = forward.without_graph()
            self.stop()
