"""Whether signals keep their scale through a model that has not been trained yet.

Source: checklist K7; the figure is Glorot & Bengio 2010's, mean and std of activations per layer.
"""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from thalweg.models.pieces.initialise import outputs_of, weight_layers

Verdict = Literal["steady", "vanishing", "exploding"]
# ratio of the last hidden layer's std to the first's: ×1.41 a layer makes 30 in 10 layers, and a
# well initialised net of 20 rectified layers was measured to move by less than 2
RATIO_LIMIT = 10.0


class LayerStatistics(NamedTuple):
    name: str
    mean: float
    std: float


def activation_statistics(model: nn.Module, inputs: Tensor) -> list[LayerStatistics]:
    """Mean and standard deviation of what each weight layer puts out, in the order of running."""
    outputs = outputs_of(model, inputs, names=tuple(weight_layers(model)))
    return [
        LayerStatistics(name, output.float().mean().item(), output.float().std().item())
        for name, output in outputs.items()
    ]


def verdict(statistics: list[LayerStatistics]) -> Verdict:
    """Compares the last hidden layer with the first; the head may start as small as it likes."""
    hidden = statistics[:-1] or statistics
    first, last = hidden[0].std, hidden[-1].std
    if not last <= first * RATIO_LIMIT:  # an infinite or undefined one is no steady one
        return "exploding"
    return "vanishing" if last * RATIO_LIMIT < first else "steady"
