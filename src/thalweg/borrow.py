"""Leave no trace of having used somebody's model, optimizer, loader and random generators.

Each `preserve_…` is a context: what it names is as before when the block ends, also after an
exception. Nothing is written into the owner's tensors: inside, the model works on copies, and the
originals are put back.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.errors import UsageError

LossFn = Callable[[Any, Any], Tensor]  # (what the model returns, targets) -> mean over the samples
Restore = Callable[[], object]
OPAQUE = (type, ModuleType, FunctionType, Tensor, nn.Module)  # attributes that are left alone
DEPTH = 4  # loader → dataset → the dataset of a subset → its transforms


def check_module(model: object) -> None:
    """Raise UsageError for a model that is no module of PyTorch."""
    if not isinstance(model, nn.Module):
        raise UsageError(
            "the model is no module of PyTorch",
            seen=f"{type(model).__name__}: {repr(model)[:80]}",
            fix="a torch.nn.Module",
        )


@dataclass(frozen=True, slots=True, eq=False)
class RandomState:
    """State of the global random generators of torch (CPU and CUDA), numpy and Python."""

    cpu: Tensor
    cuda: tuple[Tensor, ...]  # one a device; empty as long as CUDA has not been used
    numpy: Any
    python: Any

    @classmethod
    def current(cls) -> "RandomState":
        """Read the state as it is now, without starting CUDA."""
        return cls(
            torch.get_rng_state(),
            tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else (),
            np.random.get_state(),  # noqa: NPY002 (the state that a user's code draws from)
            random.getstate(),
        )

    def restore(self) -> None:
        """Set all generators to this state."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        elif torch.cuda.is_initialized():  # used for the first time since: as torch seeds it
            torch.cuda.manual_seed_all(torch.initial_seed())
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)


def seed_generators(seed: int) -> None:
    """Seed the generators that a `RandomState` holds."""
    seed_torch(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def seed_torch(seed: int) -> None:
    """Seed PyTorch alone, as `torch.manual_seed` does, for what is computed now.

    As long as CUDA has not been used, `torch.manual_seed` keeps each seed for it, with a traceback:
    a millisecond or more, and memory that grows with every call.
    """
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A training that a measurement borrows: curvature, the speed of a step, a trial."""

    model: nn.Module
    loss_fn: LossFn
    batches: Sequence[Any]  # (inputs, targets) pairs
    optimizer: Optimizer | None = None  # where the measurement makes updates
    random_state: RandomState = field(default_factory=RandomState.current)


@contextmanager
def borrow(subject: Subject) -> Iterator[None]:
    """Let the subject be trained inside, from its own random state; then restore all state.

    Weights, gradients, buffers, modes, the optimizer's state and groups, and the random state.
    """
    model, optimizer = subject.model, subject.optimizer
    with (
        preserve_random_state(),
        preserve_modes(model),
        preserve_buffers(model),
        preserve_weights(model),
        preserve_optimizer(optimizer) if optimizer else nullcontext(),
    ):
        subject.random_state.restore()
        yield


def preserve_random_state(loader: Any = None) -> AbstractContextManager[None]:
    """Restore the global random state, and the generators of a loader and its samplers."""
    state = RandomState.current()  # first of all: the type checks of a test draw random numbers
    generators = [partial(one.set_state, one.get_state()) for one in _loader_generators(loader)]
    return _restore_after([state.restore, *generators])


def preserve_modes(model: nn.Module) -> AbstractContextManager[None]:
    """Restore the train or eval mode of each module."""
    return _restore_after([partial(setattr, m, "training", m.training) for m in model.modules()])


def preserve_attributes(owner: object) -> AbstractContextManager[None]:
    """Restore an object, such as a loader, and what it holds: attributes and generators."""
    return _restore_after(list(_restores(owner, set(), DEPTH)))


@contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Give the model copies of its buffers, and the buffers themselves back afterwards."""
    originals = [(module, dict(module._buffers)) for module in model.modules()]
    try:
        for module, buffers in originals:
            copies = {n: one.clone() for n, one in buffers.items() if one is not None}
            module._buffers.update(copies)
        yield
    finally:
        for module, buffers in originals:
            module._buffers.clear()
            module._buffers.update(buffers)


@contextmanager
def preserve_weights(model: nn.Module) -> Iterator[None]:
    """Let weights and gradients hold copies of their numbers; give the originals back."""
    originals = [(weight, weight.data, weight.grad) for weight in model.parameters()]
    try:
        for weight, values, gradient in originals:
            weight.data = values.clone()
            weight.grad = None if gradient is None else gradient.clone()
        yield
    finally:
        for weight, values, gradient in originals:
            weight.data, weight.grad = values, gradient


@contextmanager
def preserve_optimizer(optimizer: Optimizer) -> Iterator[None]:
    """Let the optimizer work on a copy of its state; give its state and its groups back."""
    state = dict(optimizer.state)
    groups = [(group, dict(group)) for group in optimizer.param_groups]
    try:
        optimizer.state.update({weight: deepcopy(entries) for weight, entries in state.items()})
        yield
    finally:
        optimizer.state.clear()
        optimizer.state.update(state)
        optimizer.param_groups[:] = [group for group, _ in groups]
        for group, options in groups:
            group.clear()
            group.update(options)


@contextmanager
def _restore_after(restores: list[Restore]) -> Iterator[None]:
    try:
        yield
    finally:
        for restore in restores:
            restore()


def _loader_generators(loader: Any) -> list[torch.Generator]:
    samplers = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
    owners = [loader, *samplers, getattr(samplers[1], "sampler", None)]
    generators = (getattr(owner, "generator", None) for owner in owners)
    return [one for one in generators if isinstance(one, torch.Generator)]


def _restores(owner: Any, visited: set[int], depth: int) -> Iterator[Restore]:
    if id(owner) in visited or depth == 0:
        return
    visited.add(id(owner))
    restore = _generator_restore(owner)
    if restore is not None:
        yield restore
        return
    members = owner if isinstance(owner, list | tuple) and len(owner) < 100 else ()
    if hasattr(owner, "__dict__") and not isinstance(owner, OPAQUE):
        attributes = dict(vars(owner))
        yield lambda: _restore_attributes(owner, attributes)
        members = tuple(attributes.values())
    for member in members:
        yield from _restores(member, visited, depth - 1)


def _restore_attributes(owner: Any, attributes: dict[str, Any]) -> None:
    """Delete what came up meanwhile, such as an open file."""
    present = vars(owner)
    for name in [name for name in present if name not in attributes]:
        del present[name]
    present.update(attributes)


def _generator_restore(owner: Any) -> Restore | None:
    if isinstance(owner, torch.Generator):
        state = owner.get_state()
        return lambda: owner.set_state(state)
    if isinstance(owner, random.Random):
        python = owner.getstate()
        return lambda: owner.setstate(python)
    if isinstance(owner, np.random.RandomState):
        legacy = owner.get_state()
        return lambda: owner.set_state(legacy)
    if isinstance(owner, np.random.Generator):
        bits, current = owner.bit_generator, owner.bit_generator.state
        return lambda: setattr(bits, "state", current)
    return None
