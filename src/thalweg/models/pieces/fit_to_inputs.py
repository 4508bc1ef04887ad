"""Set the weights that are computed from training samples, before the first update."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from thalweg.models.pieces.initialise import scale_to_unit_variance

SAMPLES = 2_000  # images that filters are fitted to: two million patches of CIFAR's


@runtime_checkable
class FitsToInputs(Protocol):
    """A network with layers that are computed from inputs, and then frozen."""

    def fit_to(self, images: Tensor) -> None: ...


def fit_to_inputs(
    model: nn.Module, changes: Mapping[str, object], inputs: Callable[[int], Tensor]
) -> None:
    """Fit layers to training samples where the network asks for it.

    `inputs(n)` returns about n training samples; it is called only if needed. `changes` are the
    network's settings: init=lsuv scales all layers except the head on a batch.
    """
    if isinstance(model, FitsToInputs):
        model.fit_to(inputs(SAMPLES))
    if changes.get("init") == "lsuv":
        scale_to_unit_variance(model, inputs(1), spare=1)
