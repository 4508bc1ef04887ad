"""Record the operations of one forward pass of a copy of the model.

The copy runs in eval mode, without gradient, and the random state is restored; the user's model is
not touched.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg.observe.bare_copy import bare_copy
from thalweg.observe.forward_pass import (
    eval_keywords,
    main_output,
    map_tensors,
    own_tensors,
    plain_values,
)
from thalweg.observe.isolation import isolated
from thalweg.observe.residual_branches import Product, ResidualBranches

Key = tuple[str, str, object]  # of one layer's calls: what, in which module, of which weight
PENDING_GATES = 8  # sigmoids that may still be multiplied; an LSTM's cell has three
MOST_OF_GATE = 2**19  # numbers; larger ones are not held for the sake of their memory's identity
FLAT = 0.02  # |slope| under which a sigmoid or tanh hardly passes gradient
PRODUCTS = {"addmm", "mm", "convolution", "linear", "mkldnn_linear", "_addmm_activation"}
RECURRENT = {"lstm", "gru", "mkldnn_rnn_layer", "rnn_tanh", "rnn_relu"}
NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
RECTIFIERS = {"relu", "relu_", "threshold"}
SIGMOIDS = {"sigmoid", "sigmoid_", "tanh", "tanh_"}
SCALINGS = {"mul", "div", "mul_", "div_"}
SUMS = {"add", "add_"}
COPIES = {"_to_copy", "clone"}
SMALL_BRANCH = 0.01  # of the sum's variance: less is the start of a branch, and not of the signal
LINEAR = {  # operations that keep an affine map affine; anything not named here is nonlinear
    "view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand", "clone", "detach",
    "alias", "add", "sub", "rsub", "neg", "unsqueeze", "squeeze", "cat", "stack", "select", "slice",
    "split", "mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d", "_to_copy", "contiguous", "copy_",
    "native_dropout", "constant_pad_nd", "reflection_pad2d", "index", "empty", "zeros", "ones",
    "arange", "unbind", "lift_fresh", "as_strided", "upsample_nearest2d", "_unsafe_index", "add_",
    "sub_", "scalar_tensor", "full", "_reshape_alias", "flip", "roll", "unflatten", "movedim",
}  # fmt: skip
OF_ONE_SAMPLE = LINEAR | PRODUCTS | SCALINGS | {"mv", "addmv", "dot"}


@dataclass(slots=True)
class ForwardRecord:
    """Measurements of one forward pass, by the name of the module that made them."""

    dead: dict[str, Tensor] = field(default_factory=dict)
    saturated: dict[str, Tensor] = field(default_factory=dict)
    stds: dict[str, Tensor] = field(default_factory=dict)
    useless_bias: dict[str, float] = field(default_factory=dict)
    norm_samples: dict[str, float] = field(default_factory=dict)
    first_input: Tensor | None = None  # of the first product; empty where the model normalises it
    nonlinearities: list[int] = field(default_factory=list)  # before each product
    layers: dict[str, None] = field(default_factory=dict)  # in the order of their first calls
    called: set[str] = field(default_factory=set)  # modules that ran
    outputs: Tensor | None = None  # of the model


class CallPool:
    """Pools what several calls of one layer measure, as those of a recurrent cell."""

    def __init__(self) -> None:
        self._places: dict[Key, str] = {}
        self._means: dict[Key, tuple[Tensor, int]] = {}
        self._unions: dict[Key, Tensor] = {}

    def place(self, table: Mapping[str, object], key: Key) -> str:
        """The module's name, numbered where it does the same thing twice."""
        if key not in self._places:
            name = key[1]
            used = sum(place.partition("#")[0] == name for place in table)
            self._places[key] = f"{name}#{used + 1}" if used else name
        return self._places[key]

    def mean(self, key: Key, scalar: Tensor) -> Tensor:
        """The mean over all calls so far."""
        mean, calls = self._means.get(key, (torch.zeros_like(scalar), 0))
        self._means[key] = mean + (scalar - mean) / (calls + 1), calls + 1
        return self._means[key][0]

    def replace(self, key: Key, old: Tensor, new: Tensor) -> Tensor:
        """The mean over all calls so far, with another value for one of them."""
        mean, calls = self._means[key]
        self._means[key] = mean + (new - old) / calls, calls
        return self._means[key][0]

    def union(self, key: Key, active: Tensor) -> Tensor:
        """True where any call so far was."""
        earlier = self._unions.get(key)
        alike = earlier is not None and earlier.shape == active.shape
        self._unions[key] = earlier | active if alike and earlier is not None else active
        return self._unions[key]


class Recorder(TorchDispatchMode):
    """Measures the output of each operation as it runs."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would load its compiler to have it skip this class, which takes a second."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = ForwardRecord()
        self.stack: list[str] = []  # names of the running modules, the innermost last
        self._nonlinearities = 0
        self._generated: set[int] = set()  # memory of what products gave
        self._pool = CallPool()
        self._product: tuple[str, int] = "", 0  # the last one: its module and its weight
        self._since_product = 0  # activations
        self._sigmoids: deque[tuple[int, str, Tensor | None]] = deque(maxlen=PENDING_GATES)
        self._gates: set[str] = set()  # sigmoids that another tensor is multiplied by
        self._branches = ResidualBranches()
        self._biased: dict[int, tuple[ref[Tensor], str]] = {}  # by memory: a biased product's place
        self._last_activation: tuple[dict[str, Tensor], str] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        output = out[0] if isinstance(out, (tuple, list)) and out else out
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return out
        if output.ndim == 1:  # of one sample alone
            self._nonlinearities += name not in OF_ONE_SAMPLE
        elif output.ndim > 1:
            if output.is_nested:  # its operations run on the values
                args, output = map_tensors(args, plain_values), plain_values(output)
            if output is not None:
                self._measure(name, args, output)
        return out

    def finish(self) -> ForwardRecord:
        """The record, less gates, and the last activation if it is the model's output."""
        if self._last_activation is not None:
            table, place = self._last_activation
            table.pop(place, None)
        for place in self._gates:
            self.record.saturated.pop(place, None)
        return self.record

    def _measure(self, name: str, args: tuple[Any, ...], output: Tensor) -> None:
        if name in PRODUCTS or name in RECURRENT:
            self._measure_product(name, args, output)
        elif name in NORMS:
            self._measure_norm(args)
        elif name in RECTIFIERS:
            self._add_dead(_active_units(output))
        elif name in SIGMOIDS:
            self._measure_sigmoid(name, output)
        elif name in SUMS:
            self._measure_sum(args, output)
        elif name in COPIES:
            self._branches.follow(args[0], output)
        elif name in SCALINGS:
            self._note_gates(args)
            self._measure_scaling(args, output)
            self._nonlinearities += isinstance(args[1], Tensor) and args[1].numel() > 1
            return
        affine = name in PRODUCTS or name in NORMS
        self._nonlinearities += not affine and name not in LINEAR
        if name not in LINEAR and name not in RECTIFIERS and name not in SIGMOIDS:
            self._last_activation = None

    def _measure_sigmoid(self, name: str, output: Tensor) -> None:
        slope = output * (1 - output) if name.startswith("sig") else 1 - output.square()
        self._add_saturated((slope.abs() < FLAT).float().mean())
        if name.startswith("sig") and self._last_activation is not None:
            held = output if output.numel() <= MOST_OF_GATE else None  # its memory stays its own
            self._sigmoids.append((_memory(output), self._last_activation[1], held))

    def _add_dead(self, active: Tensor) -> None:
        """A unit is dead if no call of its layer activates it."""
        key = self._activation_key
        place = self._pool.place(self.record.dead, key)
        active = self._pool.union(key, active)
        self.record.dead[place] = 1 - active.float().mean()
        self._last_activation = (self.record.dead, place)
        self._since_product += 1

    def _add_saturated(self, share: Tensor) -> None:
        key = self._activation_key
        place = self._pool.place(self.record.saturated, key)
        self.record.saturated[place] = self._pool.mean(key, share)
        self._last_activation = (self.record.saturated, place)
        self._since_product += 1

    def _note_gates(self, args: tuple[Any, ...]) -> None:
        memories = {_memory(one) for one in args if isinstance(one, Tensor)}
        self._gates |= {place for memory, place, _ in self._sigmoids if memory in memories}

    @property
    def _activation_key(self) -> Key:
        """The same in each call of one cell, another for each layer that a loop goes through."""
        return "activation", self._module, (*self._product, self._since_product)

    @property
    def _module(self) -> str:
        return self.stack[-1] if self.stack else ""

    def _measure_product(self, name: str, args: tuple[Any, ...], output: Tensor) -> None:
        record = self.record
        inputs = args[1] if name in ("addmm", "_addmm_activation") else args[0]
        if record.first_input is None and isinstance(inputs, Tensor):
            record.first_input = inputs.detach().float()
        record.nonlinearities.append(self._nonlinearities)
        record.layers.setdefault(self._module)
        if name in RECURRENT:
            self._nonlinearities += 1  # gates are nonlinear within the operation
        weight = args[2] if name == "addmm" else args[1] if len(args) > 1 else None
        self._product = self._module, _memory(weight) if isinstance(weight, Tensor) else 0
        self._nonlinearities += self._product[1] in self._generated  # weights that a layer gave
        self._generated.add(_memory(output))
        self._since_product = 0
        key: Key = ("product", *self._product)
        place = self._pool.place(record.stds, key)
        variance = _variance(output)
        record.stds[place] = self._pool.mean(key, variance).sqrt()
        self._branches.note(output, Product(key, place, variance))
        if name == "addmm" or (name == "convolution" and args[2] is not None):
            self._biased[output.data_ptr()] = ref(output), place

    def _measure_sum(self, args: tuple[Any, ...], output: Tensor) -> None:
        """Take the sum's spread for that of a branch which adds next to nothing to it yet."""
        operands = [one for one in args if isinstance(one, Tensor)]
        if any(one.numel() != output.numel() for one in operands):  # a bias
            return
        for product in filter(None, map(self._branches.pop, operands)):
            whole = _variance(output)
            is_small = product.variance < SMALL_BRANCH * whole
            self._replace_variance(product, torch.where(is_small, whole, product.variance))

    def _measure_scaling(self, args: tuple[Any, ...], output: Tensor) -> None:
        """Take a layer's own scales, as those of quantised weights, for a part of the layer."""
        factor = args[1]
        scales = factor.numel() if isinstance(factor, Tensor) else 1
        if scales == 1:
            self._branches.follow(args[0], output)
        elif scales < output.numel() and (product := self._branches.pop(args[0])) is not None:
            variance = _variance(output)
            self._replace_variance(product, variance)
            self._branches.note(output, product._replace(variance=variance))

    def _replace_variance(self, product: Product, variance: Tensor) -> None:
        mean = self._pool.replace(product.key, product.variance, variance)
        self.record.stds[product.place] = mean.sqrt()

    def _measure_norm(self, args: tuple[Any, ...]) -> None:
        inputs = args[0]
        if self.record.first_input is None:  # the model scales its inputs itself
            self.record.first_input = torch.empty(0)
        self.record.norm_samples[self._module] = inputs.numel() / inputs.shape[1] / len(inputs)
        product, place = self._biased.get(inputs.data_ptr(), (lambda: None, ""))
        if product() is not None:  # else its memory was freed, and now holds something else
            self.record.useless_bias[place] = 1.0


def record_forward(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> ForwardRecord:
    """Record one forward pass of a copy of the model. Raises CannotCopyError."""
    copy, recorder = bare_copy(model).eval(), Recorder()
    inputs, keywords = own_tensors((inputs, eval_keywords(keywords)))
    with isolated(copy), recorder, _module_names(copy, recorder):
        outputs = main_output(copy(*inputs, **keywords))
    outputs = None if outputs is None else plain_values(outputs)
    record = recorder.finish()
    record.outputs = None if outputs is None else outputs.float().cpu()
    return record


@contextmanager
def _module_names(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Keep the name of the running module on top of the recorder's stack."""

    def enter(name: str, *_: object) -> None:
        recorder.stack.append(name)
        recorder.record.called.add(name)

    def leave(*_: object) -> None:
        recorder.stack.pop()

    for name, module in model.named_modules():
        module.register_forward_pre_hook(partial(enter, name))
        module.register_forward_hook(leave, always_call=True)
    yield


def _memory(tensor: Tensor) -> int:
    """Identity of the memory that a tensor and its views lie in."""
    return int(tensor.untyped_storage()._cdata)


def _variance(numbers: Tensor) -> Tensor:
    return numbers.float().var(correction=min(1, numbers.numel() - 1))


def _active_units(activations: Tensor) -> Tensor:
    """True for each unit (channel, or entry of the last dimension) that any sample activates."""
    unit = 1 if activations.ndim >= 4 or activations.ndim == 2 else activations.ndim - 1
    others = [d for d in range(activations.ndim) if d != unit]
    return activations.amax(others) > 0
