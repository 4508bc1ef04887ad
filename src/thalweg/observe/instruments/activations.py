"""What happens inside the model: one forward pass of a copy, every operation looked at.

The copy runs in eval mode, without gradient, with the random state put back afterwards; the user's
model is not touched. Cost: one forward pass of at most 512 samples, a dozen times a run.
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
from thalweg.observe.capture import Pass, main_output
from thalweg.observe.instrument import Moment, Reading, survey
from thalweg.record import Quantity
from thalweg.record.quantities import (
    ACTIVATION_STD,
    DEAD_UNITS,
    INPUT_OFFSET,
    INPUT_STD,
    LAYERS,
    NONLINEARITIES,
    NORM_SAMPLES,
    SATURATED,
    USELESS_BIAS,
)

MOST_SAMPLES = 512  # enough to tell a dead unit from a rare one
LEAST_SAMPLES = 128  # a unit silent on fewer says little
LEAST_VALUES = 16  # of one feature, below which its spread cannot be told
MANY_FEATURES = 16
SEEN_OUTPUTS = "outputs of the first training samples"  # kept for whoever else asks for them
FLAT = 0.02  # |slope| under which a sigmoid or tanh hardly passes gradient
PRODUCTS = {"addmm", "mm", "convolution", "linear", "mkldnn_linear", "_addmm_activation"}
RECURRENT = {"lstm", "gru", "mkldnn_rnn_layer", "rnn_tanh", "rnn_relu"}
NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
LINEAR = {  # operations that keep an affine map affine; anything not named here bends it
    "view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand", "clone", "detach",
    "alias", "add", "sub", "rsub", "neg", "unsqueeze", "squeeze", "cat", "stack", "select", "slice",
    "split", "mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d", "_to_copy", "contiguous", "copy_",
    "native_dropout", "constant_pad_nd", "reflection_pad2d", "index", "empty", "zeros", "ones",
    "arange", "unbind", "lift_fresh", "as_strided", "upsample_nearest2d", "_unsafe_index", "add_",
    "sub_", "scalar_tensor", "full", "_reshape_alias", "flip", "roll", "unflatten", "movedim",
}  # fmt: skip


@dataclass(slots=True)
class Seen:
    """What one pass showed."""

    dead: dict[str, Tensor] = field(default_factory=dict)
    saturated: dict[str, Tensor] = field(default_factory=dict)
    stds: dict[str, Tensor] = field(default_factory=dict)
    useless_bias: dict[str, float] = field(default_factory=dict)
    norm_samples: dict[str, float] = field(default_factory=dict)
    first_input: Tensor | None = None
    bends: list[int] = field(default_factory=list)  # bends before each product
    layers: set[str] = field(default_factory=set)
    outputs: Tensor | None = None  # of the model


class Recorder(TorchDispatchMode):
    """Looks at each operation's outputs as it runs."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would load its compiler to have it skip this class, which takes a second."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = Seen()
        self.stack: list[str] = []
        self._bends = 0
        self._biased: dict[int, str] = {}
        self._last: tuple[dict[str, Tensor], str] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        result = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(result, Tensor) and result.is_floating_point() and result.ndim > 1:
            self._look(name, args, result)
        return out

    def _look(self, name: str, args: tuple[Any, ...], result: Tensor) -> None:
        if name in PRODUCTS or name in RECURRENT:
            self._product(name, args, result)
        elif name in NORMS:
            self._norm(args)
        elif name in ("relu", "relu_", "threshold"):
            self._note(self.seen.dead, 1 - _alive(result).float().mean())
        elif name in ("sigmoid", "sigmoid_", "tanh", "tanh_"):
            slope = result * (1 - result) if name.startswith("sig") else 1 - result.square()
            self._note(self.seen.saturated, (slope.abs() < FLAT).float().mean())
        elif name in ("mul", "div", "mul_", "div_"):
            self._bends += isinstance(args[1], Tensor) and args[1].numel() > 1
            return
        if name not in LINEAR and name not in PRODUCTS and name not in NORMS:
            self._bends += 1
            if name not in ("relu", "relu_", "threshold", "sigmoid", "sigmoid_", "tanh", "tanh_"):
                self._last = None
        elif name in PRODUCTS or name in NORMS:
            self._last = None

    def _note(self, table: dict[str, Tensor], share: Tensor) -> None:
        place = self.place(table)
        table[place] = share
        self._last = (table, place)

    def place(self, table: Mapping[str, object]) -> str:
        """The running module's name, numbered where it does the same thing twice."""
        name = self.stack[-1] if self.stack else ""
        used = sum(key.partition("#")[0] == name for key in table)
        return f"{name}#{used + 1}" if used else name

    def _product(self, name: str, args: tuple[Any, ...], result: Tensor) -> None:
        seen = self.seen
        inputs = args[1] if name in ("addmm", "_addmm_activation") else args[0]
        if seen.first_input is None and isinstance(inputs, Tensor):
            seen.first_input = inputs.detach().float()
        seen.bends.append(self._bends)
        seen.layers.add(self.stack[-1] if self.stack else "")
        if name in RECURRENT:
            self._bends += 1  # gates bend within the operation
        place = self.place(seen.stds)
        seen.stds[place] = result.float().std(correction=min(1, result.numel() - 1))
        if name == "addmm" or (name == "convolution" and args[2] is not None):
            self._biased[result.data_ptr()] = place

    def _norm(self, args: tuple[Any, ...]) -> None:
        inputs = args[0]
        if self.seen.first_input is None:  # the model scales its inputs itself
            self.seen.first_input = torch.empty(0)
        name = self.stack[-1] if self.stack else ""
        self.seen.norm_samples[name] = inputs.numel() / inputs.shape[1] / len(inputs)
        biased = self._biased.get(inputs.data_ptr())
        if biased is not None:
            self.seen.useless_bias[biased] = 1.0

    def finish(self) -> Seen:
        """What was seen; the model's own last activation is an output, not a hidden layer."""
        if self._last is not None:
            table, place = self._last
            table.pop(place, None)
        return self.seen


class RecorderBesideCompiler(Recorder):
    """The same where the compiler is loaded: it must not look into this class."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs)


def _alive(activations: Tensor) -> Tensor:
    """For each unit, whether any sample or position moves it: channels, or the last dimension."""
    unit = 1 if activations.ndim >= 4 or activations.ndim == 2 else activations.ndim - 1
    others = [d for d in range(activations.ndim) if d != unit]
    return activations.amax(others) > 0


def look_inside(model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Seen:
    """Everything that one forward pass of a copy shows."""
    twin = deepcopy(model).eval()
    recorder = RecorderBesideCompiler() if "torch._dynamo" in sys.modules else Recorder()
    with preserve_random_state(), torch.no_grad(), recorder, _named(twin, recorder.stack):
        outputs = main_output(twin(*inputs, **keywords))
    seen = recorder.finish()
    seen.outputs = None if outputs is None else outputs.float().cpu()
    return seen


@contextmanager
def _named(model: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep the name of the running module on top of the stack."""

    def leave(*_: object) -> None:
        stack.pop()

    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: stack.append(name))
        module.register_forward_hook(leave, always_call=True)
    yield


@survey(
    DEAD_UNITS,
    SATURATED,
    ACTIVATION_STD,
    LAYERS,
    NONLINEARITIES,
    USELESS_BIAS,
    NORM_SAMPLES,
    INPUT_STD,
    INPUT_OFFSET,
    when="probe",
)
def inside(moment: Moment) -> Mapping[Quantity, Reading]:
    """Dead units, saturation, scale by depth, linearity, and what the first weights see."""
    arguments = probe_arguments(moment)
    if arguments is None:
        return {}
    inputs, keywords, samples = arguments
    try:
        with moment.in_its_precision():
            seen = look_inside(moment.model, inputs, keywords)
        if moment.train is not None:
            moment.kept_answers[SEEN_OUTPUTS] = seen.outputs
    except Exception:  # it may take nothing but the batches that it is given, as a graph's nodes
        if moment.last is None or moment.last.first_input is None:
            raise
        inputs, keywords, samples = _as_given(moment.last)
        with moment.in_its_precision():
            seen = look_inside(moment.model, inputs, keywords)
    batch = (
        samples if moment.last is None or moment.last.output is None else len(moment.last.output)
    )
    between = seen.bends[-1] - seen.bends[0] if seen.bends else 0
    reading: dict[Quantity, Reading] = {
        ACTIVATION_STD: seen.stds,
        SATURATED: seen.saturated or {"": 0.0},
        USELESS_BIAS: seen.useless_bias,
        NORM_SAMPLES: {name: each * batch for name, each in seen.norm_samples.items()},
    }
    if seen.layers:
        reading |= {LAYERS: {"": float(len(seen.layers))}, NONLINEARITIES: {"": float(between)}}
    if samples >= LEAST_SAMPLES:
        reading[DEAD_UNITS] = seen.dead or {"": 0.0}
    if seen.first_input is not None and seen.first_input.numel() > 1:
        reading |= _scale(seen.first_input)
    return reading


def _scale(inputs: Tensor) -> dict[Quantity, Reading]:
    """Spread and offset by feature (vectors) or by channel (images, sequences)."""
    unit = 1 if inputs.ndim in (2, 4, 5) else inputs.ndim - 1
    features = inputs.movedim(unit, 0).flatten(1)
    if features.shape[1] < LEAST_VALUES:
        return {}
    stds, means = features.std(1), features.mean(1)
    moving = stds > 1e-8 * means.abs().clamp_min(1e-8)
    if not bool(moving.any()):
        return {}
    stds, means = stds[moving].sort().values, (means[moving].abs() / stds[moving])
    edge = len(stds) // 10 if len(stds) > MANY_FEATURES else 0  # an odd pixel is no odd feature
    ends = {"lowest": stds[edge], "median": stds.median(), "highest": stds[-1 - edge]}
    return {INPUT_STD: ends, INPUT_OFFSET: {"": means.median()}}


def probe_arguments(moment: Moment) -> tuple[tuple[Any, ...], Mapping[str, Any], int] | None:
    """What to call the model with: many training samples if it takes one tensor, else the last."""
    last, train = moment.last, moment.train
    device = next((w.device for w in moment.model.parameters()), torch.device("cpu"))
    if train is not None and (last is None or takes_one(moment, train.inputs)):
        chosen = train.inputs[: moment.affordable(MOST_SAMPLES)].to(device)
        return (chosen,), {}, len(chosen)
    return None if last is None or last.first_input is None else _as_given(last)


def _as_given(last: Pass) -> tuple[tuple[Any, ...], Mapping[str, Any], int]:
    """The arguments of the last training pass."""
    first = last.first_input
    return last.inputs, last.keywords, len(first) if first is not None and first.ndim else 0


def takes_one(moment: Moment, inputs: Tensor) -> bool:
    """Whether the model was called with one tensor of such samples, in training or validation.

    Training may have ended with smaller images than validation has.
    """
    return any(_took(seen, inputs) for seen in (moment.last, moment.validation))


def _took(seen: Pass | None, inputs: Tensor) -> bool:
    given = seen.inputs[0] if seen and len(seen.inputs) == 1 and not seen.keywords else None
    return (
        isinstance(given, Tensor)
        and given.shape[1:] == inputs.shape[1:]
        and given.dtype == inputs.dtype
    )
