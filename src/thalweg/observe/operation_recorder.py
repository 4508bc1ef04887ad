"""Record the operations of one forward pass of a copy of the model.

The copy runs in eval mode, without gradient, and the random state is restored; the user's model is
not touched.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg.borrow import preserve_random_state
from thalweg.observe.forward_pass import main_output

FLAT = 0.02  # |slope| under which a sigmoid or tanh hardly passes gradient
PRODUCTS = {"addmm", "mm", "convolution", "linear", "mkldnn_linear", "_addmm_activation"}
RECURRENT = {"lstm", "gru", "mkldnn_rnn_layer", "rnn_tanh", "rnn_relu"}
NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
RECTIFIERS = {"relu", "relu_", "threshold"}
SIGMOIDS = {"sigmoid", "sigmoid_", "tanh", "tanh_"}
SCALINGS = {"mul", "div", "mul_", "div_"}
LINEAR = {  # operations that keep an affine map affine; anything not named here is nonlinear
    "view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand", "clone", "detach",
    "alias", "add", "sub", "rsub", "neg", "unsqueeze", "squeeze", "cat", "stack", "select", "slice",
    "split", "mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d", "_to_copy", "contiguous", "copy_",
    "native_dropout", "constant_pad_nd", "reflection_pad2d", "index", "empty", "zeros", "ones",
    "arange", "unbind", "lift_fresh", "as_strided", "upsample_nearest2d", "_unsafe_index", "add_",
    "sub_", "scalar_tensor", "full", "_reshape_alias", "flip", "roll", "unflatten", "movedim",
}  # fmt: skip


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
    layers: set[str] = field(default_factory=set)
    outputs: Tensor | None = None  # of the model


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
        self._biased: dict[int, str] = {}  # memory of a biased product -> its place
        self._last_activation: tuple[dict[str, Tensor], str] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        output = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(output, Tensor) and output.is_floating_point() and output.ndim > 1:
            self._measure(name, args, output)
        return out

    def finish(self) -> ForwardRecord:
        """The record, less the last activation if it is the model's output, not a hidden layer."""
        if self._last_activation is not None:
            table, place = self._last_activation
            table.pop(place, None)
        return self.record

    def _measure(self, name: str, args: tuple[Any, ...], output: Tensor) -> None:
        if name in PRODUCTS or name in RECURRENT:
            self._measure_product(name, args, output)
        elif name in NORMS:
            self._measure_norm(args)
        elif name in RECTIFIERS:
            self._add(self.record.dead, 1 - _active_units(output).float().mean())
        elif name in SIGMOIDS:
            slope = output * (1 - output) if name.startswith("sig") else 1 - output.square()
            self._add(self.record.saturated, (slope.abs() < FLAT).float().mean())
        elif name in SCALINGS:
            self._nonlinearities += isinstance(args[1], Tensor) and args[1].numel() > 1
            return
        affine = name in PRODUCTS or name in NORMS
        self._nonlinearities += not affine and name not in LINEAR
        if name not in LINEAR and name not in RECTIFIERS and name not in SIGMOIDS:
            self._last_activation = None

    def _add(self, table: dict[str, Tensor], share: Tensor) -> None:
        place = self._place(table)
        table[place] = share
        self._last_activation = (table, place)

    def _place(self, table: Mapping[str, object]) -> str:
        """The running module's name, numbered where it does the same thing twice."""
        name = self._module
        used = sum(key.partition("#")[0] == name for key in table)
        return f"{name}#{used + 1}" if used else name

    @property
    def _module(self) -> str:
        return self.stack[-1] if self.stack else ""

    def _measure_product(self, name: str, args: tuple[Any, ...], output: Tensor) -> None:
        record = self.record
        inputs = args[1] if name in ("addmm", "_addmm_activation") else args[0]
        if record.first_input is None and isinstance(inputs, Tensor):
            record.first_input = inputs.detach().float()
        record.nonlinearities.append(self._nonlinearities)
        record.layers.add(self._module)
        if name in RECURRENT:
            self._nonlinearities += 1  # gates are nonlinear within the operation
        place = self._place(record.stds)
        record.stds[place] = output.float().std(correction=min(1, output.numel() - 1))
        if name == "addmm" or (name == "convolution" and args[2] is not None):
            self._biased[output.data_ptr()] = place

    def _measure_norm(self, args: tuple[Any, ...]) -> None:
        inputs = args[0]
        if self.record.first_input is None:  # the model scales its inputs itself
            self.record.first_input = torch.empty(0)
        self.record.norm_samples[self._module] = inputs.numel() / inputs.shape[1] / len(inputs)
        biased = self._biased.get(inputs.data_ptr())
        if biased is not None:
            self.record.useless_bias[biased] = 1.0


class RecorderBesideCompiler(Recorder):
    """The same where the compiler is loaded: it must not look into this class."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs)


def record_forward(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> ForwardRecord:
    """Record one forward pass of a copy of the model."""
    copy = deepcopy(model).eval()
    recorder = RecorderBesideCompiler() if "torch._dynamo" in sys.modules else Recorder()
    with preserve_random_state(), torch.no_grad(), recorder, _module_names(copy, recorder.stack):
        outputs = main_output(copy(*inputs, **keywords))
    record = recorder.finish()
    record.outputs = None if outputs is None else outputs.float().cpu()
    return record


@contextmanager
def _module_names(model: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep the name of the running module on top of the stack."""

    def leave(*_: object) -> None:
        stack.pop()

    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: stack.append(name))
        module.register_forward_hook(leave, always_call=True)
    yield


def _active_units(activations: Tensor) -> Tensor:
    """True for each unit (channel, or entry of the last dimension) that any sample activates."""
    unit = 1 if activations.ndim >= 4 or activations.ndim == 2 else activations.ndim - 1
    others = [d for d in range(activations.ndim) if d != unit]
    return activations.amax(others) > 0
