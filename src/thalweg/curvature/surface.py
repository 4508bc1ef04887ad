"""The loss of a model over fixed batches, as a function of one flat vector of weights."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from thalweg.borrow import LossFn
from thalweg.curvature.faults import LossNotDeterministicError, LossNotFiniteError
from thalweg.curvature.portions import Portion, portions_of, regrouped, rows
from thalweg.curvature.twice_differentiable import (
    BatchNormMode,
    Normalised,
    Slot,
    replace_buffers,
    set_weight,
    twice_differentiable,
    unwrapped,
    weight_slots,
)
from thalweg.errors import UsageError
from thalweg.registry import unknown_name

REPEATS = {torch.float32: 1e-5, torch.float64: 1e-10}  # relative: rounding may differ, no more


class Surface:
    """Mean loss over `batches` at any weights. A context: inside it the model is on loan.

    `batch_norm` says what normalisation layers do. In "train" mode they normalise by the batch, as
    in training; in "eval" mode by their running statistics. The two surfaces differ by an order of
    magnitude in curvature, so every result states which one it is of. Dropout is off in both.

    `weights` are names or patterns ("head.*"); by default everything that requires a gradient.
    Floating-point tensors are computed in `dtype`; by default the weights' own, at least float32.
    `batches` are (inputs, targets) pairs, held in memory meanwhile; a sample is a row of targets.

    Raises: UsageError on unknown weights or no batches, LossNotFiniteError, and
    LossNotDeterministicError.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        batches: Iterable[Sequence[Any]],
        *,
        weights: Sequence[str] | None = None,
        batch_norm: BatchNormMode = "train",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model = unwrapped(model)
        self._loss_fn = loss_fn
        self._slots = weight_slots(self.model)
        self._found = {name: _weight_in(places[0]) for name, places in self._slots.items()}
        self.names = _selected(self._found, weights)
        first = self._found[self.names[0]]
        self.dtype = dtype or torch.promote_types(first.dtype, torch.float32)
        self.device = first.device
        with torch.inference_mode(False):  # what is made inside it can never be differentiated
            self.portions = portions_of(batches, self.device, self.dtype)
        self.samples = sum(rows(portion.targets) for portion in self.portions)
        self.batch_norm: BatchNormMode = batch_norm
        self._stack = ExitStack()
        self.leaves: list[nn.Parameter] = []
        self.passes = 0  # forward passes over a batch: the unit in which cost is told

    def __enter__(self) -> "Surface":
        with ExitStack() as stack:
            stack.callback(self._put_back)
            stack.enter_context(twice_differentiable(self.model, self.batch_norm))
            self._hang_leaves()
            self._check_repeatable()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def normalised(self) -> Normalised:
        """By which statistics: what a result must state."""
        if any(isinstance(module, _NormBase) for module in self.model.modules()):
            return self.batch_norm
        return "none"

    @property
    def size(self) -> int:
        return sum(leaf.numel() for leaf in self.leaves)

    @property
    def shapes(self) -> list[torch.Size]:
        return [leaf.shape for leaf in self.leaves]

    @property
    def point(self) -> Float[Tensor, " weights"]:
        """The present weights, as one vector (a copy)."""
        return self.flat([leaf.detach() for leaf in self.leaves])

    def flat(self, tensors: Sequence[Tensor]) -> Float[Tensor, " weights"]:
        return torch.cat([tensor.reshape(-1) for tensor in tensors])

    def split(self, vector: Float[Tensor, " weights"]) -> list[Tensor]:
        """The vector as tensors shaped like the weights (views of it)."""
        parts = vector.split([leaf.numel() for leaf in self.leaves])
        return [part.view(leaf.shape) for part, leaf in zip(parts, self.leaves, strict=True)]

    def move(self, point: Float[Tensor, " weights"]) -> None:
        """Stand at other weights. The user's own are not written to."""
        for i, (name, part) in enumerate(
            zip(self.names, self.split(point.detach().to(self.device, self.dtype)), strict=True)
        ):
            self.leaves[i] = nn.Parameter(part)
            set_weight(self._slots[name], self.leaves[i])

    def batch_loss(self, portion: Portion) -> Float[Tensor, ""]:
        """Mean loss of one batch, with its graph."""
        return self._loss_fn(self.outputs(portion), portion.targets)

    def outputs(self, portion: Portion) -> Any:
        """What the model returns for one batch, with its graph."""
        replace_buffers(self.model, self.dtype)
        self.passes += 1
        if isinstance(portion.inputs, Mapping):
            return self.model(**portion.inputs)
        if isinstance(portion.inputs, tuple | list):
            return self.model(*portion.inputs)
        return self.model(portion.inputs)

    def loss_of(self, outputs: Any, portion: Portion) -> Float[Tensor, ""]:
        return self._loss_fn(outputs, portion.targets)

    def loss(self, portions: Sequence[Portion] | None = None) -> float:
        """Mean loss over all batches (or over other data) at the present weights."""
        with torch.no_grad():
            return sum(
                float(self.batch_loss(portion)) * portion.share
                for portion in portions or self.portions
            )

    def groups(self, count: int, portions: Sequence[Portion] | None = None) -> list[Portion]:
        """The same samples (or other data) in at least `count` groups, if they can be cut so.

        Under batch statistics they cannot: a batch is what its samples are normalised by.
        """
        found, together = list(portions or self.portions), self.normalised == "train"
        return found if together or len(found) >= count else regrouped(found, count)

    def other(self, batches: Iterable[Sequence[Any]]) -> list[Portion]:
        """Other data, ready to be measured at the same weights."""
        return portions_of(batches, self.device, self.dtype)

    def loss_at(
        self, point: Float[Tensor, " weights"], portions: Sequence[Portion] | None = None
    ) -> float:
        """Mean loss at other weights; stands where it stood afterwards."""
        with self._moved(point):
            return self.loss(portions)

    def gradient_at(self, point: Float[Tensor, " weights"]) -> Float[Tensor, " weights"]:
        """Gradient at other weights; stands where it stood afterwards."""
        with self._moved(point):
            return self.gradient()

    @property
    def originals(self) -> list[nn.Parameter]:
        """The user's own weights, in the order of `names`."""
        return [self._found[name] for name in self.names]

    @contextmanager
    def _moved(self, point: Tensor) -> Iterator[None]:
        found = self.leaves
        self.leaves = list(found)
        self.move(point)
        try:
            yield
        finally:
            self.leaves = found
            for name, leaf in zip(self.names, found, strict=True):
                set_weight(self._slots[name], leaf)

    def gradient(self) -> Float[Tensor, " weights"]:
        """Gradient of the mean loss over all batches."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for portion in self.portions:
            total.add_(self.batch_gradient(portion), alpha=portion.share)
        return total

    def batch_gradient(self, portion: Portion) -> Float[Tensor, " weights"]:
        return self.flat(
            torch.autograd.grad(
                self.batch_loss(portion), self.leaves, allow_unused=True, materialize_grads=True
            )
        )

    def _hang_leaves(self) -> None:
        self.leaves = []
        for name, weight in self._found.items():
            copy = weight.is_inference()  # such tensors cannot take part in autograd
            value = weight.detach().to(self.dtype if weight.is_floating_point() else weight.dtype)
            chosen = name in self.names
            leaf = nn.Parameter(value.clone() if copy else value, requires_grad=chosen)
            set_weight(self._slots[name], leaf)
            if chosen:
                self.leaves.append(leaf)

    def _put_back(self) -> None:
        for name, weight in self._found.items():
            set_weight(self._slots[name], weight)
        self.leaves = []

    def _check_repeatable(self) -> None:
        with torch.no_grad():
            first = float(self.batch_loss(self.portions[0]))
            if not np.isfinite(first):
                raise _not_finite(self, first)
            state = torch.get_rng_state()
            second = float(self.batch_loss(self.portions[0]))
        if abs(first - second) > REPEATS.get(self.dtype, 1e-5) * max(abs(first), 1e-12):
            drew = not torch.equal(state, torch.get_rng_state())
            raise LossNotDeterministicError(
                "the same weights and the same batch give different losses",
                seen=f"{first!r}, then {second!r}"
                + ("; the forward pass or the loss draws random numbers" if drew else ""),
                fix="switch off what is random in the model and in loss_fn, or keep a fixed seed "
                "in it (layers of dropout are off already)",
            )


def _weight_in(slot: Slot) -> nn.Parameter:
    weight = slot.module._parameters[slot.name]
    assert weight is not None
    return weight


def _selected(found: Mapping[str, nn.Parameter], patterns: Sequence[str] | None) -> list[str]:
    floating = [n for n, w in found.items() if w.is_floating_point()]
    if patterns is None:
        chosen = [name for name in floating if found[name].requires_grad]
        if not chosen:
            raise UsageError(
                "no weight of the model requires a gradient",
                seen=f"{len(floating)} weights, all frozen",
                fix="name the ones to look at: weights=['head.*']",
            )
        return chosen
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in floating):
            raise unknown_name("weight", pattern, floating)
    return [name for name in floating if any(fnmatchcase(name, p) for p in patterns)]


def _not_finite(surface: Surface, loss: float) -> LossNotFiniteError:
    culprit = _first_not_finite(surface)
    return LossNotFiniteError(
        f"the loss is {loss} at the present weights",
        seen=f"the first value that is not finite: {culprit}",
        fix="curvature exists only where the loss is finite: load weights from before it was lost",
    )


def _first_not_finite(surface: Surface) -> str:
    """The first weight, input or module with a NaN or an infinity in it."""
    for name, leaf in zip(surface.names, surface.leaves, strict=True):
        if not leaf.isfinite().all():
            return f"weight {name}"
    portion = surface.portions[0]
    if isinstance(portion.inputs, Tensor) and not _finite(portion.inputs):
        return "the inputs of the first batch"
    seen: list[str] = []
    handles = [
        module.register_forward_hook(
            lambda _module, _inputs, out, name=name: (
                None if _finite(out) else seen.append(name or type(_module).__name__)
            )
        )
        for name, module in surface.model.named_modules()
    ]
    try:
        surface.outputs(portion)
    finally:
        for handle in handles:
            handle.remove()
    return f"the output of {seen[0]}" if seen else "loss_fn's own value"


def _finite(value: Any) -> bool:
    return not (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and not bool(value.detach().isfinite().all())
    )
