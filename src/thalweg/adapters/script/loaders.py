"""Learn which loader feeds a model, and which entries of its batches are inputs and targets."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from thalweg.adapters.traceless_batches import TracelessBatches, traceless_batches
from thalweg.observe.data_sample import TARGET_NAMES, Pair
from thalweg.observe.forward_pass import tensors

Key = str | int | None  # of a batch's entry; None: the batch itself
MOST_COMPARED = 2**16  # numbers of two tensors that are compared


@dataclass(frozen=True, slots=True)
class BatchForm:
    """The entries of a batch that a model is called with, and that may be its targets."""

    inputs: Key
    targets: Key
    has_targets: bool
    shape: tuple[int, ...]  # of a sample, as the model gets it
    dtype: torch.dtype

    def pair(self, batch: Any) -> Pair:
        """(inputs as the model gets them, targets) of a batch."""
        entries = _entries(batch)
        inputs, targets = entries.get(self.inputs), entries.get(self.targets)
        if inputs is not None:
            inputs = inputs.reshape(len(inputs), *self.shape).to(self.dtype)
        return inputs, targets if self.has_targets else None


def batch_form(batch: Any, arguments: Any) -> BatchForm | None:
    """The form of a loader's batch, if the first tensor that a model is called with is in it."""
    first = next(tensors(arguments), None)
    entries = _entries(batch)
    if first is None or first.ndim == 0:
        return None
    key = next((key for key, entry in entries.items() if _same(entry, first)), False)
    if key is False:
        return None
    targets = _target_key(entries, key)
    shape = tuple(first.shape[1:])
    return BatchForm(key, targets, targets is not False, shape, first.dtype)


class LoaderParts:
    """The data set and the samplers of a loader: its workers need not live as long."""

    def __init__(self, loader: Any) -> None:
        try:
            self._loader = copy(loader)
            vars(self._loader)["_iterator"] = None
        except Exception:  # a subclass that cannot be copied
            self._loader = loader
        self._indices = getattr(getattr(loader, "sampler", None), "indices", None)
        self.key = id(getattr(loader, "dataset", None)), id(self._indices)

    def batches(self, form: BatchForm) -> TracelessBatches | None:
        """The batches, to be read at the end; None where they cannot be read without a trace."""
        return traceless_batches(self._loader, form.pair)

    def reads_same_samples(self, other: "LoaderParts") -> bool:
        """True if both read the very same samples: one of them evaluates the training split."""
        return self._samples() == other._samples()

    def _samples(self) -> tuple[object, list[int]]:
        dataset: Any = getattr(self._loader, "dataset", None)
        indices = () if self._indices is None else self._indices
        if isinstance(dataset, Subset):
            dataset, indices = dataset.dataset, dataset.indices
        memory: object = id(dataset)
        if isinstance(dataset, TensorDataset):
            memory = [(tensor.data_ptr(), tensor.shape) for tensor in dataset.tensors]
        return memory, sorted(map(int, indices))


def _entries(batch: Any) -> dict[Any, Tensor]:
    if isinstance(batch, Tensor):
        return {None: batch}
    pairs: Any = ()
    if isinstance(batch, Mapping) or hasattr(batch, "keys"):
        pairs = ((key, batch[key]) for key in batch.keys())  # noqa: SIM118 (no Mapping, perhaps)
    elif isinstance(batch, list | tuple):
        pairs = enumerate(batch)
    return {key: entry for key, entry in pairs if isinstance(entry, Tensor) and entry.ndim > 0}


def _target_key(entries: dict[Any, Tensor], inputs: Any) -> Any:
    """The entry that may be the targets; False where there is none."""
    named = [key for key in TARGET_NAMES if key in entries]
    if named:
        return named[0]
    others = [key for key in entries if key != inputs and isinstance(key, int)]
    if len(others) == 1 or (others and inputs == 0):
        return others[0]
    return False


def _same(entry: Tensor, argument: Tensor) -> bool:
    """True if a model's argument is this entry, moved, cast or reshaped."""
    if entry is argument:
        return True
    if entry.numel() != argument.numel() or len(entry) != len(argument):
        return False
    if entry.is_complex() or argument.is_complex() or not entry.numel():
        return False
    first, second = (
        one.detach().flatten()[:MOST_COMPARED].to("cpu", torch.float64) for one in (entry, argument)
    )
    return torch.equal(first, second)
