"""See each update of the weights: by the optimizer's hooks, or by the weights before and after it.

An optimizer may be a wrapper around another one; a wrapper may have no hooks; and the compiler
makes hooks that it meets a part of what it compiles. Where no hook can be trusted, the update is
what changed between two steps of the loop.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from thalweg.errors import UsageError
from thalweg.observe.bare_copy import named_weights
from thalweg.observe.compiler import compiler_in_use
from thalweg.observe.guard import Hook, ReportFailure
from thalweg.observe.local_shard import local_part
from thalweg.observe.readable_weight import is_readable
from thalweg.observe.spaced_entries import entries_per_tensor, spaced_entries

NamedWeights = list[tuple[str, Tensor]]
DEPTH = 3  # optimizers inside one another


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One update by one optimizer, just made."""

    optimizer: Any
    weights: NamedWeights
    copies: list[Tensor] | None  # of entries of the weights before it
    in_hook: bool  # the gradients are still those that the optimizer saw


OnUpdate = Callable[[Update], None]


def optimizers_in(optimizer: Any) -> tuple[Any, ...]:
    """The user's optimizers: objects with `param_groups`, alone or in any collection.

    Raises: UsageError where there is none.
    """
    if hasattr(optimizer, "param_groups"):
        return (optimizer,)
    if isinstance(optimizer, Mapping):
        return optimizers_in(tuple(optimizer.values()))
    if isinstance(optimizer, Iterable) and not isinstance(optimizer, str):
        return tuple(chain.from_iterable(map(optimizers_in, optimizer)))
    inner = tuple(_inner_optimizers(optimizer, 1))
    if not inner:
        raise UsageError(
            "watch() found no optimizer", seen=repr(optimizer)[:80], fix="pass torch's optimizers"
        )
    return inner


def _inner_optimizers(owner: Any, depth: int) -> Iterator[Optimizer]:
    """The optimizer itself and those in its attributes, the outermost first."""
    if isinstance(owner, Optimizer):
        yield owner
    if depth < DEPTH:
        for attribute in list(getattr(owner, "__dict__", {}).values()):
            if hasattr(attribute, "param_groups"):
                yield from _inner_optimizers(attribute, depth + 1)


class UpdateHooks:
    """Calls `on_update` after each update of one step, with copies of entries from before it."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Any, ...],
        *,
        keeps_weights: bool,
        on_update: OnUpdate,
        report_failure: ReportFailure,
        compares: bool = False,
    ) -> None:
        self.ran = self.ran_in_hook = False  # True once an update was seen
        self.with_gradient: set[str] = set()  # weights that had one at an update
        self.on_begin: Callable[[], None] = do_nothing  # called before an update
        self._on_update, self._report_failure = on_update, report_failure
        self._keeps_weights = keeps_weights
        self._compares = compares or compiler_in_use()  # hooks did not run, or are not safe
        self._late = False
        self._weights = {id(weight): (name, weight) for name, weight in named_weights(model)}
        self._copies: dict[int, list[Tensor]] = {}  # by optimizer: entries from before the update
        self._stepping: Any = None  # the outermost optimizer that is making an update
        self._unhooked: list[Any] = []
        self._handles: list[RemovableHandle] = []
        for optimizer in optimizers:
            self._attach(optimizer)

    def remove(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def is_hooked(self) -> bool:
        """True if an optimizer tells when its update begins."""
        return bool(self._handles)

    def finish(self) -> None:
        """End the loop's step: measure updates without hooks, or wait for one in a later step."""
        for optimizer in self._unhooked:
            copies, weights = self._copies.pop(id(optimizer), None), self._weights_of(optimizer)
            if not self.ran and copies is not None and _differ(copies, weights):
                self._measure(optimizer, copies, in_hook=False)
        self._unhooked = []
        self._late = True

    def _attach(self, optimizer: Any) -> None:
        for stepper in () if compiler_in_use() else _inner_optimizers(optimizer, 0):
            before = Hook(self._before_update, self._report_failure)
            after = Hook(self._after_update, self._report_failure)
            with suppress(AttributeError):  # a wrapper that left out Optimizer.__init__
                self._handles.append(stepper.register_step_pre_hook(before))
                self._handles.append(stepper.register_step_post_hook(after))
        if self._compares or not self._handles:
            self._unhooked.append(optimizer)
            self._copy_weights(optimizer)

    def _before_update(self, optimizer: Any, *_: object) -> None:
        done = self._late and self.ran
        if self._stepping is None and not done:  # else a wrapper's inner optimizer makes the update
            self._stepping = optimizer
            self.on_begin()
            self._copy_weights(optimizer)

    def _after_update(self, optimizer: Any, *_: object) -> None:
        done = self._late and self.ran
        if done or self._stepping not in (None, optimizer):
            return
        self._stepping = None  # None as well if the watch began within this update
        self._measure(optimizer, self._copies.pop(id(optimizer), None), in_hook=True)

    def _measure(self, optimizer: Any, copies: list[Tensor] | None, *, in_hook: bool) -> None:
        self.ran, self.ran_in_hook = True, self.ran_in_hook or in_hook
        weights = self._weights_of(optimizer)
        self.with_gradient |= {name for name, weight in weights if weight.grad is not None}
        update = Update(optimizer=optimizer, weights=weights, copies=copies, in_hook=in_hook)
        self._on_update(update)

    def _copy_weights(self, optimizer: Any) -> None:
        if self._keeps_weights:
            parts = [local_part(weight).detach() for _, weight in self._weights_of(optimizer)]
            sampled = zip(parts, entries_per_tensor(parts), strict=True)
            self._copies[id(optimizer)] = [spaced_entries(w, most).clone() for w, most in sampled]

    def _weights_of(self, optimizer: Any) -> NamedWeights:
        ids = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        own = [entry for key, entry in self._weights.items() if key in ids]
        own = [(name, weight) for name, weight in own if is_readable(weight)]
        return [(n, w) for n, w in own if local_part(w).numel()]  # an uneven shard may be empty


def do_nothing() -> None:
    """Begin an update that nobody waits for."""


def _differ(copies: list[Tensor], weights: NamedWeights) -> bool:
    """True if any weight has changed since it was copied."""
    parts = [local_part(weight).detach() for _, weight in weights]
    sampled = zip(parts, entries_per_tensor(parts), copies, strict=True)
    return any(not torch.equal(spaced_entries(part, most), copy) for part, most, copy in sampled)
