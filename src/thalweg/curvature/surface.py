"""The loss surface: a model's loss over fixed batches as a function of one weight vector."""

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
from thalweg.curvature.errors import LossNotDeterministicError, LossNotFiniteError
from thalweg.curvature.portions import Portion, make_portions, num_samples, regroup
from thalweg.curvature.twice_differentiable import (
    BatchNormMode,
    Normalisation,
    Slot,
    innermost_model,
    replace_buffers,
    set_weight,
    twice_differentiable,
    weight_slots,
)
from thalweg.errors import UsageError
from thalweg.registry import unknown_name

REPEATABILITY = {torch.float32: 1e-5, torch.float64: 1e-10}  # relative: only rounding may differ


class Surface:
    """Mean loss over `batches` at any weights. As a context manager it borrows the model.

    `batch_norm` is the mode of normalisation layers: "train" normalises by the batch, as in
    training; "eval" by the running statistics. The two surfaces differ by an order of magnitude in
    curvature, so every result states its mode. Dropout is off in both.

    `weights` are names or patterns ("head.*"); by default everything that requires a gradient.
    Floating-point tensors are computed in `dtype`; by default the weights' own, at least float32.
    `batches` are (inputs, targets) pairs, which stay in memory; a sample is a row of targets.

    Raises: UsageError for unknown weights or no batches, LossNotFiniteError,
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
        self.model = innermost_model(model)
        self._loss_fn = loss_fn
        self._slots = weight_slots(self.model)
        self._originals = {name: _weight_in(places[0]) for name, places in self._slots.items()}
        self.names = _selected_names(self._originals, weights)
        first = self._originals[self.names[0]]
        self.dtype = dtype or torch.promote_types(first.dtype, torch.float32)
        self.device = first.device
        with torch.inference_mode(False):  # tensors created in inference mode have no gradient
            self.portions = make_portions(batches, self.device, self.dtype)
        self.samples = sum(num_samples(portion.targets) for portion in self.portions)
        self.batch_norm: BatchNormMode = batch_norm
        self._stack = ExitStack()
        self.leaves: list[nn.Parameter] = []
        self.passes = 0  # forward passes over a batch: the unit of cost

    def __enter__(self) -> "Surface":
        with ExitStack() as stack:
            stack.callback(self._restore_weights)
            stack.enter_context(twice_differentiable(self.model, self.batch_norm))
            self._install_leaves()
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
    def normalisation(self) -> Normalisation:
        """The statistics that layers normalise by, which every result must state."""
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
        """The current weights as one vector (a copy)."""
        return self.flat([leaf.detach() for leaf in self.leaves])

    def flat(self, tensors: Sequence[Tensor]) -> Float[Tensor, " weights"]:
        """The tensors, shaped like the weights, as one vector."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])

    def split(self, vector: Float[Tensor, " weights"]) -> list[Tensor]:
        """The vector as tensors shaped like the weights (views of it)."""
        parts = vector.split([leaf.numel() for leaf in self.leaves])
        return [part.view(leaf.shape) for part, leaf in zip(parts, self.leaves, strict=True)]

    def move(self, point: Float[Tensor, " weights"]) -> None:
        """Move to other weights; the user's own do not change."""
        for i, (name, part) in enumerate(
            zip(self.names, self.split(point.detach().to(self.device, self.dtype)), strict=True)
        ):
            self.leaves[i] = nn.Parameter(part)
            set_weight(self._slots[name], self.leaves[i])

    def batch_loss(self, portion: Portion) -> Float[Tensor, ""]:
        """Mean loss of one batch, with its graph."""
        return self._loss_fn(self.outputs(portion), portion.targets)

    def outputs(self, portion: Portion) -> Any:
        """The model's outputs for one batch, with their graph."""
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
        """Mean loss over all batches (or over other data) at the current weights."""
        with torch.no_grad():
            return sum(
                float(self.batch_loss(portion)) * portion.share
                for portion in portions or self.portions
            )

    def groups(self, count: int, portions: Sequence[Portion] | None = None) -> list[Portion]:
        """Cut the samples (or other data) into at least `count` groups, if possible.

        Batches that layers normalise by cannot be cut.
        """
        portions = list(portions or self.portions)
        if self.normalisation == "train" or len(portions) >= count:
            return portions
        return regroup(portions, count)

    def portions_of(self, batches: Iterable[Sequence[Any]]) -> list[Portion]:
        """Prepare other data for measurements at the same weights."""
        return make_portions(batches, self.device, self.dtype)

    def loss_at(
        self, point: Float[Tensor, " weights"], portions: Sequence[Portion] | None = None
    ) -> float:
        """Mean loss at other weights; the surface then moves back."""
        with self._at(point):
            return self.loss(portions)

    def gradient_at(self, point: Float[Tensor, " weights"]) -> Float[Tensor, " weights"]:
        """Gradient at other weights; the surface then moves back."""
        with self._at(point):
            return self.gradient()

    @property
    def originals(self) -> list[nn.Parameter]:
        """The user's own weights, in the order of `names`."""
        return [self._originals[name] for name in self.names]

    @contextmanager
    def _at(self, point: Tensor) -> Iterator[None]:
        leaves = self.leaves
        self.leaves = list(leaves)
        self.move(point)
        try:
            yield
        finally:
            self.leaves = leaves
            for name, leaf in zip(self.names, leaves, strict=True):
                set_weight(self._slots[name], leaf)

    def gradient(self) -> Float[Tensor, " weights"]:
        """Gradient of the mean loss over all batches."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for portion in self.portions:
            total.add_(self.batch_gradient(portion), alpha=portion.share)
        return total

    def batch_gradient(self, portion: Portion) -> Float[Tensor, " weights"]:
        """Gradient of the mean loss of one batch."""
        return self.flat(
            torch.autograd.grad(
                self.batch_loss(portion), self.leaves, allow_unused=True, materialize_grads=True
            )
        )

    def _install_leaves(self) -> None:
        self.leaves = []
        for name, weight in self._originals.items():
            copy = weight.is_inference()  # such tensors cannot take part in autograd
            value = weight.detach().to(self.dtype if weight.is_floating_point() else weight.dtype)
            is_selected = name in self.names
            leaf = nn.Parameter(value.clone() if copy else value, requires_grad=is_selected)
            set_weight(self._slots[name], leaf)
            if is_selected:
                self.leaves.append(leaf)

    def _restore_weights(self) -> None:
        for name, weight in self._originals.items():
            set_weight(self._slots[name], weight)
        self.leaves = []

    def _check_repeatable(self) -> None:
        with torch.no_grad():
            first = float(self.batch_loss(self.portions[0]))
            if not np.isfinite(first):
                raise _not_finite_error(self, first)
            state = torch.get_rng_state()
            second = float(self.batch_loss(self.portions[0]))
        if abs(first - second) > REPEATABILITY.get(self.dtype, 1e-5) * max(abs(first), 1e-12):
            is_random = not torch.equal(state, torch.get_rng_state())
            raise LossNotDeterministicError(
                "the same weights and the same batch give different losses",
                seen=f"{first!r}, then {second!r}"
                + ("; the forward pass or the loss draws random numbers" if is_random else ""),
                fix="switch off randomness in the model and in loss_fn, or fix its seed (dropout "
                "layers are off already)",
            )


def _weight_in(slot: Slot) -> nn.Parameter:
    weight = slot.module._parameters[slot.name]
    assert weight is not None
    return weight


def _selected_names(
    weights: Mapping[str, nn.Parameter], patterns: Sequence[str] | None
) -> list[str]:
    floating = [n for n, w in weights.items() if w.is_floating_point()]
    if patterns is None:
        trainable = [name for name in floating if weights[name].requires_grad]
        if not trainable:
            raise UsageError(
                "no weight of the model requires a gradient",
                seen=f"{len(floating)} weights, all frozen",
                fix="name the weights to measure: weights=['head.*']",
            )
        return trainable
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in floating):
            raise unknown_name("weight", pattern, floating)
    return [name for name in floating if any(fnmatchcase(name, p) for p in patterns)]


def _not_finite_error(surface: Surface, loss: float) -> LossNotFiniteError:
    culprit = _first_not_finite(surface)
    return LossNotFiniteError(
        f"the loss is {loss} at the current weights",
        seen=f"the first value that is not finite: {culprit}",
        fix=f"curvature needs a finite loss: load weights from before the loss became {loss}",
    )


def _first_not_finite(surface: Surface) -> str:
    """The first weight, input or module with a NaN or an infinity in it."""
    for name, leaf in zip(surface.names, surface.leaves, strict=True):
        if not leaf.isfinite().all():
            return f"weight {name}"
    portion = surface.portions[0]
    if isinstance(portion.inputs, Tensor) and not _is_finite(portion.inputs):
        return "the inputs of the first batch"
    not_finite: list[str] = []
    handles = [
        module.register_forward_hook(
            lambda _module, _inputs, out, name=name: (
                None if _is_finite(out) else not_finite.append(name or type(_module).__name__)
            )
        )
        for name, module in surface.model.named_modules()
    ]
    try:
        surface.outputs(portion)
    finally:
        for handle in handles:
            handle.remove()
    return f"the output of {not_finite[0]}" if not_finite else "loss_fn's own value"


def _is_finite(value: Any) -> bool:
    return not (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and not bool(value.detach().isfinite().all())
    )
