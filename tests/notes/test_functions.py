"""What a network computes: sums of bent lines, stacked."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from thalweg.models.mlp import mlp
from thalweg.models.pieces.activation import ACTIVATIONS

LINE = torch.linspace(-3, 3, 601, dtype=torch.float64)


def test_a_network_of_two_layers_is_its_formula():
    """f = W₂ᵀ σ(W₁ᵀ x + b₁) + b₂, written out unit by unit."""
    torch.manual_seed(0)
    model = mlp(3, input_shape=(4,), width=5, depth=1, activation="sigmoid").double()
    x = torch.randn(4, dtype=torch.float64)
    (w1, b1), (w2, b2) = (
        (m.weight.tolist(), m.bias.tolist()) for m in model.modules() if isinstance(m, nn.Linear)
    )
    inner = [b1[i] + sum(w1[i][j] * x[j].item() for j in range(4)) for i in range(5)]
    bent = [1 / (1 + np.exp(-r)) for r in inner]
    expected = [b2[k] + sum(w2[k][i] * bent[i] for i in range(5)) for k in range(3)]
    assert model(x[None])[0].tolist() == pytest.approx(expected)


def test_all_unknowns_stack_into_one_vector_and_back():
    model = mlp(3, input_shape=(4,), width=5, depth=2)
    theta = parameters_to_vector(model.parameters())
    assert len(theta) == (4 * 5 + 5) + (5 * 5 + 5) + (5 * 3 + 3)
    before = [weight.clone() for weight in model.parameters()]
    vector_to_parameters(2 * theta, model.parameters())
    assert all(torch.equal(w, 2 * b) for w, b in zip(model.parameters(), before, strict=True))


def hard_sigmoid(b, w, c):
    """The bent line of the lecture: 0, then a slope, then c. It is made of two ReLUs."""
    relu = ACTIVATIONS["relu"]()
    return c * (relu(b + w * LINE) - relu(b + w * LINE - 1))


@pytest.mark.parametrize(("b", "w", "c"), [(0.5, 1.0, 1.0), (-1.0, 2.0, 3.0), (0.2, -1.5, -2.0)])
def test_a_hard_sigmoid_is_two_rectifiers(b, w, c):
    """A note calls it "sigmoid" and its smooth version "hard" (E31)."""
    torch.testing.assert_close(hard_sigmoid(b, w, c), c * (b + w * LINE).clamp(0, 1))
    # PyTorch's is scaled: it rises from −3 to 3
    torch.testing.assert_close(F.hardsigmoid(LINE), (LINE / 6 + 0.5).clamp(0, 1))


def test_each_of_the_three_letters_does_one_thing():
    """c σ(b + w x): w is the slope, b the shift, c the height."""

    def curve(b, w, c):
        return c * torch.sigmoid(b + w * LINE)

    def slope(y):
        return (y[1:] - y[:-1]).abs().max() / (LINE[1] - LINE[0])

    assert slope(curve(0, 4, 1)) == pytest.approx(2 * slope(curve(0, 2, 1)).item(), rel=1e-3)
    middle = LINE[(curve(2.0, 2, 1) - 0.5).abs().argmin()]
    assert middle.item() == pytest.approx(-1.0)  # −b / w
    assert curve(0, 100, 3).max() == pytest.approx(3)


def pieced(function, pieces):
    """Constant + a hard sigmoid a piece, each of which climbs from one knot to the next."""
    knots = torch.linspace(-3, 3, pieces + 1, dtype=torch.float64)
    heights = function(knots)
    total = heights[0].expand(len(LINE)).clone()
    for left, right, low, high in zip(knots, knots[1:], heights, heights[1:], strict=False):
        w = 1 / (right - left)
        total += hard_sigmoid(-left * w, w, high - low)
    return total


def test_any_curve_is_a_constant_and_a_sum_of_hard_sigmoids():
    """The error of n linear pieces falls as 1/n², (h²/8)·max|f″|."""

    def function(x):
        return torch.sin(2 * x) + 0.3 * x

    errors = {n: (pieced(function, n) - function(LINE)).abs().max().item() for n in (10, 20, 40)}
    for n, error in errors.items():
        assert error <= (6 / n) ** 2 / 8 * 4 + 1e-9
        assert error > 0.5 * (6 / n) ** 2 / 8 * 4
    assert errors[10] / errors[20] == pytest.approx(4, rel=0.25)


def test_steep_sigmoids_become_the_bent_line():
    """The smooth one is the soft version: σ(4 (x − ½)) has the hard one's slope."""
    soft = torch.sigmoid(4 * (LINE - 0.5))
    hard = LINE.clamp(0, 1)
    assert (soft - hard).abs().max() < 0.13
    assert (soft - hard).abs()[(LINE < -1) | (LINE > 2)].max() < 0.003
