"""The scale of signals from layer to layer in an untrained model.

Source: Glorot & Bengio 2010, who plot mean and standard deviation of activations per layer.
"""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from thalweg.models.pieces.initialise import layer_outputs, weight_layers

Trend = Literal["steady", "vanishing", "exploding"]
# ratio of the last hidden layer's std to the first's: ×1.41 a layer makes 30 in 10 layers; a
# well initialised network of 20 ReLU layers was measured to stay below 2
RATIO_LIMIT = 10.0


class LayerStatistics(NamedTuple):
    name: str
    mean: float
    std: float


def activation_statistics(model: nn.Module, inputs: Tensor) -> list[LayerStatistics]:
    """Mean and standard deviation of each weight layer's outputs, in the order of running."""
    outputs = layer_outputs(model, inputs, names=tuple(weight_layers(model)))
    return [
        LayerStatistics(name, output.float().mean().item(), output.float().std().item())
        for name, output in outputs.items()
    ]


def signal_trend(statistics: list[LayerStatistics]) -> Trend:
    """Compare the last hidden layer with the first; the head does not count."""
    hidden = statistics[:-1] or statistics
    first, last = hidden[0].std, hidden[-1].std
    if not last <= first * RATIO_LIMIT:  # also for an infinite or undefined std
        return "exploding"
    return "vanishing" if last * RATIO_LIMIT < first else "steady"
