"""What success means: the loss to descend, the metrics to report, the head that fits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

LossFn = Callable[[Tensor, Tensor], Tensor]
Metric = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A goal for training. Its functions take the logits and the targets of any number of samples.

    `metrics` are computed once over a whole split, so they are exact where batches are ragged.
    """

    name: str
    loss_fn: LossFn  # mean over the samples
    outputs: int  # size of the model's head
    chance_loss: float  # what a model that knows nothing scores, in the loss's unit
    metrics: Mapping[str, Metric]
    headline: str  # the metric that picks the best model; higher is better
    decode: Callable[[Tensor], Tensor]  # logits → probabilities, or values in the target's unit
