"""Find copies of the model that run in the training loop: target networks, teachers, averages.

While a step is read, a hook on all modules notes calls of those that have the class and the names
and shapes of the weights of the model, or of a part of it. Some entries of their weights show at
the end if the copy ever moved.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakMethod, finalize, ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle

from thalweg.observe.bootstrapped_targets import (
    CopyPass,
    discount_of_copy,
    discount_of_same_inputs,
    input_entries,
    output_rows,
)
from thalweg.observe.compiler import compiler_in_use
from thalweg.observe.guard import Guard, Hook
from thalweg.observe.instrument import Moment
from thalweg.observe.readable_weight import is_readable
from thalweg.observe.spaced_entries import entries_per_tensor, spaced_entries
from thalweg.record.quantities import (
    COPY_DISCOUNT,
    COPY_MOVED,
    COPY_STATISTICS,
    SAME_STATE_DISCOUNT,
)

MOST_PASSES = 8  # of one step that are kept
MOST_COPIES = 8
MOST_BYTES = 2**18  # of a copy's weights
DEPTH = 2  # of the parts that a copy may be of
LEAST_MATRICES = 2  # of a part: one layer is no copy of another
Signature = tuple[type[nn.Module], tuple[tuple[str, tuple[int, ...]], ...]]


class State(NamedTuple):
    """Some entries of the weights of a module, and the statistics of its batch norms."""

    weights: list[Tensor]
    statistics: dict[str, Tensor]


@dataclass(slots=True)
class ModelCopy:
    """A module like the model or a part of it, and both when it was called first and last."""

    module: "ref[nn.Module]"
    part: nn.Module
    name: str  # of the copy, by its part
    first: State
    last: State
    part_first: State
    called_at: list[int]  # the first and the last reading that it ran in
    ran_in_train_mode: bool = False
    discount: float = -1.0  # negative without evidence of a bootstrapped target
    inner: frozenset[int] = frozenset()  # ids of the modules in it


def _call(method: "WeakMethod[Any]", *arguments: Any) -> None:
    """Call a method, unless its object is gone: PyTorch holds a hook on all modules for ever."""
    function = method()
    if function is not None:
        function(*arguments)


class ModelCopies:
    """Notes the passes of copies at each reading; compares weights when training is over."""

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._model, self._guard = model, guard
        self._handle: RemovableHandle | None = None
        self._parts: dict[Signature, tuple[str, nn.Module]] = {}
        self._own: set[int] = set()  # modules of the model itself
        self._copies: dict[int, ModelCopy] = {}
        self._others: set[int] = set()  # modules called in this reading that are no copies
        self._readings: list[int] = []  # the first and the last one that any copy ran in
        self._passes: list[tuple[ModelCopy | None, CopyPass]] = []

    def begin(self) -> None:
        """Note calls from now on, unless a hook would be compiled."""
        self._passes, self._others = [], set()
        if compiler_in_use():
            return
        self._own = {id(module) for module in self._model.modules()}
        self._parts = {signature(part): (name, part) for name, part in _parts(self._model)}
        hook = Hook(partial(_call, WeakMethod(self._after_call)), self._guard.report_failure)
        self._handle = register_module_forward_hook(hook)
        finalize(self, self._handle.remove)  # of a watcher that nobody closed

    def end(self) -> None:
        """Note no more calls."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def record(self, moment: Moment) -> None:
        """Compare the outputs of the copies with the targets of the step's loss."""
        called = {id(copy): copy for copy, _ in self._passes if copy is not None}
        for copy in called.values():
            module = copy.module()
            copy.called_at = [*copy.called_at[:1], moment.step]
            self._readings = [*self._readings[:1], moment.step]
            copy.last = copy.last if module is None else _state(module)
            of_copies = [one for owner, one in self._passes if owner is not None]
            own = [one for owner, one in self._passes if owner is copy]
            of_model = [one for owner, one in self._passes if owner is None]
            slope = discount_of_copy(moment, own, of_copies=of_copies, of_model=of_model)
            copy.discount = slope if slope > 0 else max(copy.discount, slope)
        same = discount_of_same_inputs(moment, [one for _, one in self._passes])
        if same is not None:
            self._guard.history.add(SAME_STATE_DISCOUNT, moment.step, {"": same})
        self._passes = []

    def complete(self, step: int) -> None:
        """Record which copies have moved, of those that ran from the first reading to the last.

        One that is gone by now, as a local variable of the user's, is as it was last called.
        """
        if len(self._readings) < 2:
            return
        whole = [(k, c) for k, c in self._copies.items() if c.called_at == self._readings]
        inner = frozenset(key for _, copy in whole for key in copy.inner)
        names: Counter[str] = Counter()
        for copy in (c for key, c in whole if key not in inner):
            names[copy.name] += 1
            number = names[copy.name]
            place = copy.name if number == 1 else f"{copy.name} ({number})"
            module = copy.module()
            if module is not None:
                copy.last = _state(module)
            self._record_changes(copy, place, step)

    def _record_changes(self, copy: ModelCopy, place: str, step: int) -> None:
        part, history = _state(copy.part), self._guard.history
        if _equal(copy.part_first.weights, part.weights):
            return  # frozen itself: nothing to copy
        moved = not _equal(copy.first.weights, copy.last.weights)
        history.add(COPY_MOVED, step, {place: float(moved)})
        if copy.discount >= 0:
            history.add(COPY_DISCOUNT, step, {place: copy.discount})
        changed = _statistics_changed(copy, part.statistics)
        if moved and changed is not None:
            history.add(COPY_STATISTICS, step, {place: float(changed)})

    def _after_call(self, module: nn.Module, inputs: Any, output: Any) -> None:
        key = id(module)
        if key in self._others:
            return
        if key in self._own:
            self._keep(module, inputs, output, copy=None)
            return
        copy = self._copies.get(key)
        if copy is None or copy.module() is not module:
            copy = self._new_copy(module)
        if copy is None:
            self._others.add(key)
            return
        self._keep(module, inputs, output, copy=copy)

    def _new_copy(self, module: nn.Module) -> ModelCopy | None:
        kinds = {kind for kind, _ in self._parts}
        if type(module) not in kinds or len(self._copies) >= MOST_COPIES:
            return None
        name, part = self._parts.get(signature(module), ("", None))
        if part is None or not all(map(is_readable, (*module.parameters(), *part.parameters()))):
            return None
        state = _state(module)
        copy = ModelCopy(
            module=ref(module),
            part=part,
            name=name or type(module).__name__,
            first=state,
            last=state,
            part_first=_state(part),
            called_at=[],
            inner=frozenset(id(child) for child in module.modules() if child is not module),
        )
        self._copies[id(module)] = copy
        return copy

    def _keep(self, module: nn.Module, inputs: Any, output: Any, *, copy: ModelCopy | None) -> None:
        parts = {id(part) for _, part in self._parts.values()}
        if copy is None and id(module) not in parts:
            self._others.add(id(module))
            return
        if copy is not None:
            copy.ran_in_train_mode |= module.training
        if len(self._passes) < MOST_PASSES:
            self._passes.append((copy, CopyPass(input_entries(inputs), output_rows(output))))


def signature(module: nn.Module) -> Signature:
    """The class of a module, and the names and shapes of its weights."""
    weights = ((name, tuple(weight.shape)) for name, weight in module.named_parameters())
    return type(module), tuple(weights)


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of the model that a copy may be of; the model itself comes last."""
    for name, module in model.named_modules():
        matrices = sum(weight.ndim > 1 for weight in module.parameters())
        if name and name.count(".") < DEPTH and matrices >= LEAST_MATRICES:
            yield name, module
    if next(model.parameters(), None) is not None:
        yield "", model


def _state(module: nn.Module) -> State:
    weights = [weight.detach() for weight in module.parameters()]
    sampled = zip(weights, entries_per_tensor(weights, MOST_BYTES), strict=True)
    views = [spaced_entries(weight, most) for weight, most in sampled]
    return State([view.clone() for view in views], _statistics(module))


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(one, other.to(one.device)) for one, other in pairs)


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the running means and variances of the batch norms."""
    return {
        f"{name}.{kind}": statistic.clone()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for kind in ("running_mean", "running_var")
        if (statistic := getattr(layer, kind, None)) is not None
    }


def _statistics_changed(copy: ModelCopy, part: dict[str, Tensor]) -> bool | None:
    """True if a copy that runs in eval mode has new statistics; None where it needs none."""
    first, last, part_first = (
        copy.first.statistics,
        copy.last.statistics,
        copy.part_first.statistics,
    )
    if copy.ran_in_train_mode or not first:
        return None
    if not first.keys() == last.keys() == part.keys() == part_first.keys():
        return None
    if _equal(list(part.values()), list(part_first.values())):
        return None
    return not _equal(list(first.values()), list(last.values()))
