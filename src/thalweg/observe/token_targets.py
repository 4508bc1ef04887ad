"""Targets of a model of sequences, as the gradient at its outputs shows them.

Outputs are read as [row, column, class] whether the model returns the classes last, second (as
convolutions over time do), or one row for each token of the batch.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.observe.forward_pass import ForwardPass, tensors
from thalweg.observe.lowest_entries import IGNORED
from thalweg.observe.sample_arguments import Arguments
from thalweg.observe.spaced_entries import MOST_OF_OUTPUT, output_strides

MOST_ONE_HOT = 2**22  # numbers of an argument that may be a one-hot code
Arrange = Callable[[Tensor, tuple[int, int]], Tensor | None]


class TokenArgument(NamedTuple):
    """An argument that holds one token for each row and column."""

    position: int  # among the tensors of the arguments
    tokens: Tensor  # [row, column], on the CPU
    dims: tuple[int, int]  # of the argument, in which rows and columns lie


class Targets(NamedTuple):
    """The targets that the gradient shows, for evenly spaced places of the output."""

    classes: Tensor  # [row, column]
    active: Tensor  # True where the loss has a target
    rows: Tensor  # indices
    columns: Tensor
    shape: tuple[int, int, int]  # of the whole output: rows, columns, classes
    arrange: Arrange  # an output, for tokens of that shape, as [row, column, class]


def token_arguments(arguments: Arguments) -> Iterator[TokenArgument]:
    """Arguments of integers in two dimensions, or of their one-hot code in three."""
    for position, one in enumerate(tensors(tuple(arguments))):
        if one.ndim == 2 and not one.is_floating_point() and one.dtype != torch.bool:
            yield TokenArgument(position, one.detach().cpu(), (0, 1))
        elif one.ndim == 3 and one.is_floating_point() and 0 < one.numel() <= MOST_ONE_HOT:
            codes = _one_hot_dimension(one.detach())
            if codes is not None:
                dims = (0, 2) if codes == 1 else (0, 1)
                yield TokenArgument(position, one.detach().argmax(codes).cpu(), dims)


def _one_hot_dimension(tensor: Tensor) -> int | None:
    if not bool(((tensor == 0) | (tensor == 1)).all()):
        return None
    fitting = (d for d in (2, 1) if tensor.shape[d] > 1 and bool((tensor.sum(d) == 1).all()))
    return next(fitting, None)


def class_targets(forward: ForwardPass, argument: TokenArgument) -> Iterator[Targets]:
    """The class at which the gradient is lowest, for each way to arrange the output."""
    output, gradients, shape = forward.output, forward.gradients, forward.output_shape
    if output is None or len(gradients) != 1 or gradients[0].shape != output.shape:
        return
    gradient = gradients[0].detach()
    if len(shape) == 3 and min(shape) >= 1 + (shape[0] != 1):
        strides = output_strides(shape, MOST_OF_OUTPUT // output.itemsize)
        rows, columns = (torch.arange(0, shape[d], strides[d]) for d in (0, 1))
        yield _targets(gradient, rows, columns, shape=shape, arrange=as_it_is)
        second = (shape[0], shape[2], shape[1])
        if forward.is_whole:
            rows, columns = torch.arange(shape[0]), torch.arange(shape[2])
            moved = gradient.movedim(1, 2)
            yield _targets(moved, rows, columns, shape=second, arrange=class_last)
        elif forward.token_classes and forward.token_classes[0].shape == second[:2]:
            yield _from_classes(forward.token_classes[0].cpu(), shape=second)
    elif len(shape) == 2 and forward.is_whole and shape[0] == argument.tokens.numel():
        whole = (*argument.tokens.shape, shape[1])
        rows, columns = (torch.arange(length) for length in whole[:2])
        yield _targets(gradient.view(whole), rows, columns, shape=whole, arrange=unflattened)


def _targets(
    gradient: Tensor, rows: Tensor, columns: Tensor, *, shape: tuple[int, ...], arrange: Arrange
) -> Targets:
    classes, active = gradient.argmin(2).cpu(), (gradient != 0).any(2).cpu()
    return Targets(classes, active, rows, columns, (shape[0], shape[1], shape[2]), arrange)


def _from_classes(classes: Tensor, *, shape: tuple[int, int, int]) -> Targets:
    rows, columns = (torch.arange(length) for length in shape[:2])
    return Targets(classes, classes != IGNORED, rows, columns, shape, class_last)


def as_it_is(output: Tensor, _shape: tuple[int, int]) -> Tensor | None:
    """The output of a model that returns the classes last."""
    return output if output.ndim == 3 else None


def class_last(output: Tensor, _shape: tuple[int, int]) -> Tensor | None:
    """The output of a model that returns the classes second."""
    return output.movedim(1, 2) if output.ndim == 3 else None


def unflattened(output: Tensor, shape: tuple[int, int]) -> Tensor | None:
    """The output of a model that returns a row for each token."""
    fits = output.ndim == 2 and len(output) == shape[0] * shape[1]
    return output.reshape(*shape, output.shape[1]) if fits else None
