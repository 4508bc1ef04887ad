"""What of a fresh network follows from training samples, before the first update."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from thalweg.models.pieces.initialise import unit_variance

SAMPLES = 2_000  # images whose patches are looked at: two million patches of a CIFAR image


@runtime_checkable
class FitsToInputs(Protocol):
    """A network with layers that are computed from inputs, and then not trained."""

    def fit_to(self, images: Tensor) -> None: ...


def fit_to_inputs(
    model: nn.Module, changes: Mapping[str, object], inputs: Callable[[int], Tensor]
) -> None:
    """Fit what is to be fitted; `inputs` gives that many training samples, or about as many.

    It is not called for a network that needs none. `changes` are the network's settings: init=lsuv
    scales the layers, the head apart, on a batch.
    """
    if isinstance(model, FitsToInputs):
        model.fit_to(inputs(SAMPLES))
    if changes.get("init") == "lsuv":
        unit_variance(model, inputs(1), spare=1)
