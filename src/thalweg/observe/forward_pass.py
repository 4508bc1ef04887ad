"""One forward pass of the user's model, as its hooks see it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.observe.local_shard import whole_value
from thalweg.observe.loss_graph import operation_name
from thalweg.observe.lowest_entries import lowest_entries
from thalweg.observe.spaced_entries import MOST_OF_OUTPUT, compact, output_strides, strided

MOST_INPUTS = 12 * 2**20  # bytes of the arguments that are held from one reading to the next
CAST = "ToCopy"  # the name of the graph's node of a change of dtype begins so
MOST_PROBED = 24 * 2**20  # bytes that the output of a probe may take


@dataclass(slots=True, weakref_slot=True)
class ForwardPass:
    """References to what is small; evenly spaced predictions of an output that is large."""

    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any]
    output: Tensor | None  # detached; the logits, where there are several outputs
    output_node: Any  # of the graph: where the model ends and the loss begins
    training: bool  # the model's own flag
    modes: Mapping[str, bool]  # each module whose behaviour depends on its flag
    autocast_dtype: tuple[str, torch.dtype] | None = None  # device and type of the loop's autocast
    gradients: list[Tensor] = field(default_factory=list)  # ∂loss/∂output, one a backward pass
    token_classes: list[Tensor] = field(default_factory=list)  # targets of a large output
    output_shape: tuple[int, ...] = ()  # of the whole output
    output_operation: str | None = None  # that made it: "softmax", "linear"; None without a graph
    hook: RemovableHandle | None = None  # on the output: graph, hook and this pass hold each other

    @property
    def first_input(self) -> Tensor | None:
        """The first tensor among the arguments; of a jagged one its values."""
        every = (plain_values(one) for one in tensors((self.inputs, self.keywords)))
        return next((one for one in every if one is not None), None)

    @property
    def batch_size(self) -> int:
        """Samples in the batch, by the shape of the output or of the inputs; 0 without either.

        A list of images, as detectors take it, has one for each sample.
        """
        first = self.first_input
        images = self.inputs[0] if self.inputs and not self.output_shape else None
        if isinstance(images, list) and all(isinstance(e, Tensor) and e.ndim == 3 for e in images):
            return len(images)
        shape = self.output_shape or (() if first is None else first.shape)
        return int(shape[0]) if shape else 0

    @property
    def is_whole(self) -> bool:
        """True if `output` holds all predictions of the batch."""
        return self.output is not None and tuple(self.output.shape) == self.output_shape

    def without_graph(self) -> "ForwardPass":
        """The same pass to be held for long: no graph, no gradients, few samples of a large batch.

        Without arguments where they are large and have no common first dimension to cut.
        """
        inputs, keywords = _few_samples(self)
        return replace(
            self,
            inputs=inputs,
            keywords=keywords,
            output_node=None,
            hook=None,
            gradients=[],
            token_classes=[],
        )

    def autocast(self) -> AbstractContextManager[object]:
        """Turn on the autocast that was on around this pass, if any."""
        return (
            nullcontext() if self.autocast_dtype is None else torch.autocast(*self.autocast_dtype)
        )


def capture(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Any, *, output: Any
) -> ForwardPass:
    """Note a forward pass; a hook on its output appends the gradient when backward comes.

    Remove `hook` when the step is over: what it holds would else wait for the garbage collector.
    """
    main = main_output(output)
    output = None if main is None else _whole_values(main)
    shape = () if output is None else tuple(output.shape)
    strides = () if output is None else output_strides(shape, MOST_OF_OUTPUT // output.itemsize)
    node = None if main is None else main.grad_fn
    forward = ForwardPass(
        inputs=inputs,
        keywords=keywords,
        output=None if output is None else compact(strided(output, strides)),
        output_node=node,
        training=model.training,
        modes={n: m.training for n, m in model.named_modules() if depends_on_mode(m)},
        autocast_dtype=None if main is None else _autocast_dtype(main.device.type),
        output_shape=shape,
        output_operation=None if node is None else operation_name(node),
    )
    if main is not None and main.requires_grad and torch.is_grad_enabled():
        forward.hook = main.register_hook(partial(_note_gradient, forward, strides))
        if node is not None and node.name().startswith(CAST):
            uncast, index = node.next_functions[0]
            if uncast is not None:  # held weakly: a graph and its hook would keep each other alive
                of_output = ref(forward), strides, index
                hook = partial(_note_gradient_before_cast, of_output)
                uncast.register_prehook(hook)
    return forward


def _note_gradient(forward: ForwardPass, strides: tuple[int, ...], gradient: Tensor | None) -> None:
    """Keep the gradient of the predictions that are kept.

    None where the loss was computed from something else, as from half-precision outputs.
    """
    with suppress(Exception):  # within the user's backward pass
        value = None if gradient is None else _whole_values(gradient)
        if value is not None:
            forward.gradients.append(compact(strided(value, strides)))
            if value.ndim == 3 and any(stride > 1 for stride in strides):
                axis = 1 if _time_is_last(forward) else -1
                forward.token_classes.append(lowest_entries(value, axis))


def _note_gradient_before_cast(
    of_output: tuple["ref[ForwardPass]", tuple[int, ...], int],
    gradients: tuple[Tensor | None, ...],
) -> None:
    """Keep the gradient of half-precision predictions, if none came through their cast.

    A model that computes its loss itself does so from these, and accelerate casts what it returns.
    """
    with suppress(Exception):  # within the user's backward pass
        passed, strides, index = of_output
        forward = passed()
        if forward is None or forward.output_node is None:
            return
        if forward.output_node.name().startswith(CAST):
            if forward.gradients:
                return
            forward.output_node = forward.output_node.next_functions[0][0]
        _note_gradient(forward, strides, gradients[index])


def _time_is_last(forward: ForwardPass) -> bool:
    """True for an output [sample, class, time] of a model called with [sample, time] integers."""
    rows, classes, length = forward.output_shape
    shapes = {
        tuple(one.shape)
        for one in tensors((forward.inputs, forward.keywords))
        if one.ndim == 2 and not one.is_floating_point()
    }
    return (rows, length) in shapes and (rows, classes) not in shapes


def _few_samples(forward: ForwardPass) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments, or the first samples of each where all of them are too many to hold."""
    arguments = (forward.inputs, dict(forward.keywords))
    values = [one for t in tensors(arguments) if (one := plain_values(t)) is not None]
    sizes = [(t.numel() * t.element_size(), len(t) if t.ndim else 0) for t in values]
    count, memory = forward.batch_size, sum(size for size, _ in sizes)
    output = count and prod(forward.output_shape) * 4
    share = max(memory / MOST_INPUTS, output / MOST_PROBED)
    if share > 1 and any(length != count for _, length in sizes):
        return arguments if memory <= MOST_INPUTS else ((), {})
    most = max(1, int(count / share)) if share > 1 else count
    inputs, keywords = map_tensors(
        arguments, lambda one: compact(one.detach()[:most] if share > 1 else one)
    )
    return inputs, keywords


def _autocast_dtype(device: str) -> tuple[str, torch.dtype] | None:
    if not torch.is_autocast_enabled(device):
        return None
    return device, torch.get_autocast_dtype(device)


def depends_on_mode(module: nn.Module) -> bool:
    """True if train and eval mode differ for this very module."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.track_running_stats
    dropout = getattr(module, "dropout", 0.0)
    return isinstance(module, nn.RNNBase | nn.MultiheadAttention) and dropout > 0


def _whole_values(tensor: Tensor) -> Tensor | None:
    value = whole_value(tensor.detach())
    return None if value is None else plain_values(value)


def plain_values(tensor: Tensor) -> Tensor | None:
    """A jagged tensor's values, its samples one after the other; None for other nested ones."""
    if not tensor.is_nested:
        return tensor
    return torch.as_tensor(tensor.values()) if tensor.layout == torch.jagged else None


def is_plain(tensor: Tensor) -> bool:
    """False for nested and sparse tensors, and others whose numbers are not all in one place."""
    dense = tensor.layout == torch.strided and not tensor.is_nested
    return dense and type(tensor.data) is Tensor


def own_tensors(tree: Any) -> Any:
    """Nested arguments with each tensor copied: a model may write into its inputs."""
    return map_tensors(tree, lambda one: one.detach().clone())


def eval_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a call for eval mode: Keras is told the mode by an argument."""
    return {name: False if name == "training" else value for name, value in keywords.items()}


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors(value)


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor | None]) -> Any:
    """Nested tuples, lists and dicts with each tensor changed; anything else stays the same."""
    if isinstance(tree, Tensor):
        return change(tree)
    if type(tree) is dict:
        return {key: map_tensors(value, change) for key, value in tree.items()}
    return (
        type(tree)(map_tensors(one, change) for one in tree)
        if type(tree) in (tuple, list)
        else tree
    )


def main_output(output: Any) -> Tensor | None:
    """The tensor that the loss is computed from, as far as one can tell from outside."""
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    floats = [t for t in tensors(output) if t.is_floating_point() and t.ndim > 0]
    return next((t for t in floats if t.requires_grad), floats[0] if floats else None)
