"""Find the first operation of a forward pass at which samples of a batch influence each other."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode

MEMORY = 32 * 2**20  # bytes of outputs that are compared
RESHAPES = ("view", "_unsafe_view", "reshape", "clone", "_reshape_alias", "unflatten", "expand")
SOFTMAXES = ("_softmax", "_log_softmax", "softmax", "log_softmax")
STATISTICS = ("sub", "div", "sub_", "div_", "mul", "add", "rsub")
PRODUCTS = ("bmm", "mm", "addmm", "baddbmm")
ROUTING = ("expert", "router", "moe", "capacity")
SEQUENCE_MODULES = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.Transformer,
)


class MixingOperation(NamedTuple):
    """The place and the kind of an operation that mixes samples."""

    module: str
    kind: str  # "softmax", "sequence first", "one sequence", "reshape", "statistic", …


class OperationOutputs(TorchDispatchMode):
    """Keeps the outputs of a first pass; in a second one, notes the first that mixes samples."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would load its compiler to have it skip this class, which takes a second."""
        return False

    def __init__(self, samples: int, changed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack: list[tuple[str, nn.Module, Any]] = []
        self.mixing: MixingOperation | None = None
        self.compares = False  # True in the second pass
        self._samples, self._changed = samples, changed
        self._outputs: list[Tensor] = []
        self._index = self._bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        output = out[0] if isinstance(out, (tuple, list)) and out else out
        floating = isinstance(output, Tensor) and output.is_floating_point()
        if floating and not self._is_packed(func):
            if not self.compares:
                self._keep(output)
            elif self.mixing is None:
                self._compare(func.overloadpacket.__name__, args, output)
        return out

    def _is_packed(self, func: Any) -> bool:
        """True where rows are the steps of all sequences, one after the other: no samples."""
        arguments = (one for _, _, inputs in self.stack for one in inputs)
        packs = func.overloadpacket.__name__ == "_pack_padded_sequence"
        return packs or any(isinstance(one, PackedSequence) for one in arguments)

    def _keep(self, output: Tensor) -> None:
        self._bytes += output.numel() * output.element_size()
        if self._bytes <= MEMORY:
            self._outputs.append(output.detach().clone())

    def _compare(self, name: str, args: tuple[Any, ...], output: Tensor) -> None:
        if self._index >= len(self._outputs):
            return
        first = self._outputs[self._index]
        self._index += 1
        if first.shape == output.shape and mixes(
            first, output, samples=self._samples, changed=self._changed
        ):
            place = next((one[0] for one in reversed(self.stack) if one[0]), "")
            self.mixing = MixingOperation(place, self._kind(name, args))

    def _kind(self, name: str, args: tuple[Any, ...]) -> str:
        for module_name, module, arguments in self.stack:
            if any(word in f"{module_name} {type(module).__name__}".lower() for word in ROUTING):
                return "routing"
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                return "batch norm"
            if isinstance(module, SEQUENCE_MODULES):
                return _sequence_kind(module, arguments, self._samples)
        if name in SOFTMAXES:
            width = args[0].numel() // max(1, args[0].shape[args[1]])
            return "softmax" if width > 1 else "softmax over one score"
        if name in STATISTICS and any(isinstance(a, Tensor) and a.numel() == 1 for a in args):
            return "scale"  # one number for all: of a quantisation, or of a loss
        for names, kind in (
            (RESHAPES, "reshape"),
            (STATISTICS, "statistic"),
            (PRODUCTS, "product"),
        ):
            if name in names:
                return kind
        return name


def _sequence_kind(module: Any, arguments: tuple[Any, ...], samples: int) -> str:
    """Tell samples that a module takes for a sequence from one sequence that is no batch."""
    inputs = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
    batch_first = getattr(module, "batch_first", None)
    if batch_first is None:  # a transformer layer holds it in its attention
        attention = next(
            (m for m in module.modules() if isinstance(m, nn.MultiheadAttention)), None
        )
        batch_first = getattr(attention, "batch_first", False)
    if inputs is None or inputs.ndim != 3 or inputs.shape[1] == 1:
        return "one sequence"
    if batch_first:
        is_transposed = len(inputs) != samples == inputs.shape[1]
        return "sequence second" if is_transposed else "one sequence"
    return "sequence first"


def mixes(first: Tensor, second: Tensor, *, samples: int, changed: int) -> bool:
    """True if entries of the samples after the first `changed` differ, wherever samples lie.

    False also where no dimension is a multiple of the number of samples: it cannot be told.
    """
    scale = first.abs().amax() if first.numel() else first.new_zeros(())
    different = (first - second).abs() > 64 * torch.finfo(first.dtype).eps * scale
    if not bool(different.any()):
        return False
    unchanged = [
        not bool(view.narrow(1, changed, samples - changed).any())
        for view in _sample_views(different, samples)
    ]
    return bool(unchanged) and not any(unchanged)


def _sample_views(different: Tensor, samples: int) -> Iterator[Tensor]:
    """The tensor as [before, sample, after], for each way in which samples may lie in it."""
    for axis, size in enumerate(different.shape):
        if size % samples:
            continue
        rest = size // samples
        before = different.shape[:axis].numel()
        for outer in (one for one in range(1, rest + 1) if rest % one == 0):
            yield different.reshape(before * outer, samples, -1)
