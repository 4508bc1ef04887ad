"""Copy a model's structure and share its weights' memory: a probe costs none for them.

A copy is bare: without torch.compile, DDP, DataParallel and hooks. Run it inside `isolated()`.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from functools import partial
from inspect import getattr_static
from random import Random
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from thalweg.observe.guard import NotMeasurableError

MEMORY = 64 * 2**20  # bytes that a copy may hold of its own, or a twentieth of the weights
LARGE_CODES = 2**20  # bytes from which integers are quantised weights or masks: shared
MOST_OBJECTS = 20_000  # a model that refers to more refers to its trainer, or a data set
HOOK_TABLES = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip
TABLES = {"_modules", "_parameters", "_buffers", *HOOK_TABLES}
WRAPPED = re.compile(r"_orig_mod\.|_fsdp_wrapped_module\.")  # in the names of weights
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
CALLED = (nn.Module, MethodType, FunctionType, partial)  # what a closure may hold and call
SHARED_TYPES = (
    type, FunctionType, ModuleType, Optimizer, DataLoader, Dataset, torch.device, torch.dtype,
    torch.Size, str, bytes, int, float, complex, type(None),
)  # fmt: skip


class CannotCopyError(NotMeasurableError):
    """A model cannot be probed: what it needs would be copied, or waits for other ranks."""


def bare_module(model: nn.Module) -> nn.Module:
    """The user's own module inside torch.compile, DDP and DataParallel."""
    while True:
        if type(model).__name__ == "OptimizedModule":  # known by name: loading its class takes 1 s
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, WRAPPERS):
            model = model.module
        else:
            return model


def has_forward(model: nn.Module) -> bool:
    """False for a container, such as an nn.ModuleList, whose parts alone are called."""
    own = getattr_static(type(model), "forward")  # that of a ScriptModule may not be touched
    return own is not nn.Module.forward or "forward" in vars(model)


def called_part(model: nn.Module) -> nn.Module:
    """The model itself, or the one part with all its weights that is called in its place.

    A class that only keeps its network and computes a loss by a method has no forward of its own.
    """
    while not has_forward(model):
        parts = [part for part in model.children() if next(part.parameters(), None) is not None]
        if len(parts) != 1 or any(True for _ in model.parameters(recurse=False)):
            return model
        model = parts[0]
    return model


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters by their names in the user's own module: those of a `bare_copy`."""
    for name, weight in bare_module(model).named_parameters():
        yield WRAPPED.sub("", name), weight


def bare_copy(model: nn.Module) -> nn.Module:
    """Copy the structure and the buffers of a model, and share the memory of its parameters.

    Their numbers are the user's own: do not train them in place. A module that gives its parameter
    other numbers as it runs (`weight.data = …`: a constraint, the packing of four-bit weights)
    gives them to the copy's alone. What cannot be copied, such as a lock, is shared. Hooks are left
    out, since they may write into lists of the user's; those that compute a weight (torch.nn.utils)
    stay. Raises CannotCopyError for what has no whole weights here (FSDP, DTensor, meta), for
    ScriptModules, and for buffers beyond the memory that a watcher may use.
    """
    model = bare_module(model)
    check_copyable(model)
    return _Copier(model).copy_module(model)


def check_copyable(model: nn.Module) -> None:
    """Raise CannotCopyError if not all weights are here, or the layers are out of reach."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise CannotCopyError("a ScriptModule hides its layers", seen=name or "the model")
        if type(module).__name__ == "FullyShardedDataParallel":
            raise CannotCopyError("FSDP holds a shard of the weights", seen=name or "the model")
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        reason = _missing(weight)
        if reason:
            raise CannotCopyError(reason, seen=name)


def _missing(weight: Tensor) -> str:
    if nn.parameter.is_lazy(weight):
        return "a lazy weight has no shape yet"
    if weight.is_meta:
        return "a weight on the meta device has no numbers"
    if hasattr(weight, "device_mesh"):  # DTensor, without loading torch.distributed.tensor
        return "a DTensor's numbers are spread over the ranks"
    if hasattr(weight, "ds_id"):
        return "ZeRO-3 holds a shard of the weights"
    if type(weight.data) is Tensor and weight.layout == torch.strided and weight.numel():
        return "" if weight.untyped_storage().size() else "a weight is freed between its uses"
    return ""


class _Copier:
    """Copies one model; everything is copied once, however often it is referred to."""

    def __init__(self, model: nn.Module) -> None:
        weights = list(model.parameters())
        nbytes = sum(weight.numel() * weight.element_size() for weight in weights)
        self._memory = max(MEMORY, nbytes // 20)
        self._memo: dict[int, Any] = {}
        for weight in weights:
            self._memo[id(weight)] = self._alias(weight)
        self._originals: list[object] = []  # alive, so that no id is used twice
        self._objects = MOST_OBJECTS

    def copy_module(self, module: nn.Module) -> nn.Module:
        """Copy a module and all in it."""
        module = bare_module(module)
        if id(module) in self._memo:
            return self._memo[id(module)]
        shell: Any = self._remember(module, object.__new__(type(module)))
        state = _state(module)
        own = {n: self._memo.get(id(w), w) for n, w in state["_parameters"].items()}
        vars(shell).update(state, _modules={}, _parameters=own)
        children = {
            n: None if m is None else self.copy_module(m) for n, m in state["_modules"].items()
        }
        vars(shell).update(_modules=children, _buffers=self._copy_buffers(state["_buffers"]))
        for name in HOOK_TABLES:
            if name in state:
                vars(shell)[name] = _weight_hooks(module, name)
        vars(shell).pop("_compiled_call_impl", None)  # the class's own is None
        for name in [name for name in vars(shell) if name not in TABLES]:
            vars(shell)[name] = self._copy_or_share(state[name])
        if isinstance(shell, nn.SyncBatchNorm):
            object.__setattr__(shell, "__class__", _LocalBatchNorm)
        return shell

    def _alias(self, weight: nn.Parameter) -> nn.Parameter:
        """Another parameter in the same memory; the same one where its class allows no other.

        With what libraries attach to it, copied one level deep: they replace its parts.
        """
        if not issubclass(type(weight), nn.Parameter):  # a tensor that only passes for one
            return weight
        data, grows = weight.detach(), weight.requires_grad
        alias: nn.Parameter = Tensor._make_subclass(type(weight), data, grows)
        for name, value in vars(weight).items():
            vars(alias)[name] = self._attached(value)
        return alias

    def _attached(self, value: Any) -> Any:
        """A shallow copy of an object that a library attached to a weight; of others themselves."""
        shared = isinstance(value, (*SHARED_TYPES, *CALLED, Tensor))
        if shared or not hasattr(value, "__dict__"):
            return value
        if id(value) not in self._memo:
            try:
                self._memo[id(value)] = copy(value)
            except Exception:  # it refuses
                return value
        return self._memo[id(value)]

    def _copy_buffers(self, buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
        return {n: None if one is None else self._copy_tensor(one) for n, one in buffers.items()}

    def _copy_or_share(self, value: Any) -> Any:
        """Copy an attribute; share it, and all in it, where any part refuses."""
        before = len(self._memo)
        try:
            return self._copy(value)
        except CannotCopyError:
            raise
        except Exception:
            while len(self._memo) > before:
                self._memo.popitem()
            return value

    def _copy(self, value: Any) -> Any:
        if id(value) in self._memo:
            return self._memo[id(value)]
        if isinstance(value, nn.Module):
            return self.copy_module(value)
        if isinstance(value, FunctionType) and hasattr(value, "_torchdynamo_orig_callable"):
            return self._copy(value._torchdynamo_orig_callable)
        if isinstance(value, FunctionType):
            return self._copy_function(value)
        if isinstance(value, SHARED_TYPES):
            return value
        self._objects -= 1
        if self._objects < 0:
            return value
        for types, copy_kind in self._KINDS:
            if isinstance(value, types):
                return copy_kind(self, value)
        return self._copy_object(value)

    def _remember(self, original: Any, duplicate: Any) -> Any:
        self._memo[id(original)] = duplicate
        self._originals.append(original)
        return duplicate

    def _spend(self, nbytes: int) -> None:
        self._memory -= nbytes
        if self._memory < 0:
            raise CannotCopyError(
                "the model holds buffers too large to copy while it trains",
                seen=f"more than {MEMORY >> 20} MiB and a twentieth of the weights",
            )

    def _copy_tensor(self, tensor: Tensor) -> Tensor:
        """Share what requires a gradient: a weight, or a result kept from an earlier pass."""
        if id(tensor) in self._memo:
            return self._memo[id(tensor)]
        nbytes = tensor.numel() * tensor.element_size()
        codes = not (tensor.is_floating_point() or tensor.is_complex()) and nbytes > LARGE_CODES
        if tensor.requires_grad or codes or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return tensor
        self._spend(nbytes)
        duplicate: Tensor = self._remember(tensor, tensor.detach().clone())
        return duplicate

    def _copy_array(self, array: Any) -> Any:
        self._spend(array.nbytes)
        return self._remember(array, array.copy())

    def _copy_list(self, values: Any) -> Any:
        """Copy a list or deque with its entries; of a subclass, with its attributes' references."""
        duplicate = self._remember(values, copy(values))
        for index, value in enumerate(values):
            duplicate[index] = self._copy(value)
        return duplicate

    def _copy_dict(self, values: Any) -> Any:
        duplicate = self._remember(values, copy(values))
        for key, value in list(values.items()):
            duplicate[key] = self._copy(value)
        return duplicate

    def _copy_set(self, values: Any) -> Any:
        return self._remember(values, copy(values))

    def _copy_tuple(self, values: Any) -> Any:
        entries = [self._copy(value) for value in values]
        build = getattr(type(values), "_make", type(values))  # a named tuple's constructor
        return self._remember(values, build(entries))

    def _copy_method(self, method: MethodType) -> Any:
        return MethodType(method.__func__, self._copy(method.__self__))

    def _copy_function(self, function: FunctionType) -> FunctionType:
        """Share a function; one that holds modules in its closure is made to hold their copies.

        minGPT's blocks call their layers through a lambda: it would run the user's own, in the
        mode that these are in.
        """
        cells = function.__closure__ or ()
        if not any(isinstance(_contents(cell), CALLED) for cell in cells):
            return function
        duplicate = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(CellType() for _ in cells),
        )
        duplicate.__kwdefaults__ = function.__kwdefaults__
        vars(duplicate).update(vars(function))
        self._remember(function, duplicate)
        for cell, fresh in zip(cells, duplicate.__closure__ or (), strict=True):
            contents = _contents(cell)
            if contents is not _EMPTY:
                held = self._copy(contents) if isinstance(contents, CALLED) else contents
                fresh.cell_contents = held
        return duplicate

    def _copy_partial(self, bound: Any) -> Any:
        arguments = self._copy(bound.args), self._copy(bound.keywords)
        return partial(self._copy(bound.func), *arguments[0], **arguments[1])

    def _copy_generator(self, generator: torch.Generator) -> Any:
        duplicate = torch.Generator(generator.device)
        duplicate.set_state(generator.get_state())
        return self._remember(generator, duplicate)

    def _copy_state(self, value: Any) -> Any:
        return self._remember(value, deepcopy(value))

    def _copy_object(self, value: Any) -> Any:
        """Copy an object attribute by attribute; share one that is pickled in a way of its own."""
        if hasattr(value, "__deepcopy__"):
            return deepcopy(value, self._memo)
        ancestors = type(value).__mro__[:-1]
        own_way = any("__reduce__" in vars(t) or "__reduce_ex__" in vars(t) for t in ancestors)
        if own_way or not hasattr(value, "__dict__"):
            return value
        duplicate = self._remember(value, copy(value))
        for name, attribute in list(vars(duplicate).items()):
            vars(duplicate)[name] = self._copy(attribute)
        return duplicate

    _KINDS: tuple[tuple[Any, Callable[["_Copier", Any], Any]], ...] = (
        (Tensor, _copy_tensor),
        (np.ndarray, _copy_array),
        ((list, deque), _copy_list),
        (dict, _copy_dict),
        (tuple, _copy_tuple),
        (set, _copy_set),
        (MethodType, _copy_method),
        (partial, _copy_partial),
        (torch.Generator, _copy_generator),
        ((Random, np.random.Generator, np.random.RandomState), _copy_state),
    )


_EMPTY = object()  # of a variable that has no value yet


def _contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _state(module: nn.Module) -> dict[str, Any]:
    """A module's attributes; as it is pickled where it leaves out its trainer, as Lightning's."""
    if type(module).__getstate__ is object.__getstate__:
        return vars(module)
    try:
        state = module.__getstate__()
    except Exception:  # parametrised modules refuse to be pickled
        return vars(module)
    return vars(module) | state if isinstance(state, dict) else vars(module)


def _weight_hooks(module: nn.Module, table: str) -> Any:
    """The hooks of torch.nn.utils in one table: weight and spectral norm, pruning."""
    hooks = getattr(module, table)
    callables = {**module._forward_pre_hooks}
    return type(hooks)(
        (key, hook)
        for key, hook in hooks.items()
        if type(callables.get(key, hook)).__module__.startswith("torch.nn.utils")
    )


class _LocalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A synchronised batch norm's copy, which waits for no other rank."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""
