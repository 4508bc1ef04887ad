"""The shape at a point against closed forms: minimum or saddle, sharp or flat."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.curvature import spectrum
from thalweg.curvature.shape import MOVE, shape_at
from thalweg.curvature.spectrum import Shape


class Product(nn.Module):
    """ŷ = w₁w₂x: the smallest network with a saddle."""

    def __init__(self, *start):
        super().__init__()
        self.w1, self.w2 = (nn.Parameter(torch.tensor(w, dtype=torch.float64)) for w in start)

    def forward(self, x):
        return self.w1 * self.w2 * x


ONES = [(torch.ones(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64))]


def shape_of(model, batches, held_out):
    result = spectrum(model, F.mse_loss, batches, top=1, probes=0)
    return shape_at(model, F.mse_loss, batches, spectrum=result, held_out=held_out)


@pytest.mark.parametrize("held_out", [ONES, None])
def test_the_origin_of_a_product_is_a_saddle(held_out):
    shape = shape_of(Product(0.0, 0.0), ONES, held_out)
    assert shape.kind == "saddle"
    assert shape.rise == pytest.approx(0, abs=1e-12)  # of weights without length


def test_a_slope_is_no_minimum():
    assert shape_of(Product(2.0, 1.0), ONES, ONES).kind == "not-critical"


def regression(scale):
    """Least squares at its solution, where the loss along a direction is a parabola."""
    torch.manual_seed(0)
    inputs = scale * torch.randn(64, 3).double()
    targets = torch.randn(64, 1).double()
    model = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    return model, [(inputs, targets)]


def test_the_rise_is_that_of_the_parabola():
    model, batches = regression(1.0)
    shape = shape_of(model, batches, None)
    inputs, targets = batches[0]
    curvature = torch.linalg.eigvalsh(2 * inputs.T @ inputs / len(inputs))[-1]
    length = MOVE * model.weight.detach().norm()
    assert shape.kind == "minimum"
    assert shape.rise == pytest.approx(float(curvature * length**2 / 2), rel=1e-4)
    assert shape.loss == pytest.approx(F.mse_loss(model(inputs).detach(), targets).item())
    assert shape.sharpness == "flat"


@pytest.mark.parametrize(
    ("rise", "loss", "word"),
    [(0.001, 0.0, "flat"), (0.03, 0.0, "moderate"), (0.3, 0.0, "sharp"), (0.03, 5.0, "flat")],
)
def test_the_words_follow_from_the_rise(rise, loss, word):
    shape = Shape(kind="minimum", reason="", loss=loss, rise=rise)
    assert shape.sharpness == word
    assert shape.to_dict()["sharpness"] == word
