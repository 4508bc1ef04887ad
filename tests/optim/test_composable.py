"""One composable optimizer, the named ones, and the notes' own formulae, step for step."""

from functools import partial
from math import sqrt

import pytest
import torch
from torch import nn

from thalweg.optim import composable as g

STEPS = 12
LR = 0.05
TORCHS = {
    "sgd": (g.gradient, g.one, lambda w: torch.optim.SGD(w, LR)),
    "momentum": (g.momentum(0.9), g.one, lambda w: torch.optim.SGD(w, LR, momentum=0.9)),
    "velocity": (g.velocity(0.9), g.one, lambda w: torch.optim.SGD(w, LR, momentum=0.9)),
    "nesterov": (
        g.nesterov(0.9),
        g.one,
        lambda w: torch.optim.SGD(w, LR, momentum=0.9, nesterov=True),
    ),
    "adagrad": (g.gradient, g.root_sum(), lambda w: torch.optim.Adagrad(w, LR)),
    "rmsprop": (g.gradient, g.root_average(0.99), lambda w: torch.optim.RMSprop(w, LR)),
    "adam": (
        g.average(0.9),
        g.root_average(0.999, corrected=True),
        lambda w: torch.optim.Adam(w, LR),
    ),
}


def slope(w):
    """The gradient of a bowl whose two axes differ 10-fold, and a fourth power."""
    return torch.tensor([[1.0], [10.0]], dtype=torch.float64) * w + w**3


def path(optimizer_of, *, rates=None, start=None):
    """Where the weights go, step after step."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(2, 3, dtype=torch.float64) / 10 if start is None else start)
    optimizer, seen = optimizer_of([weight]), []
    for step in range(STEPS):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[step]
        weight.grad = slope(weight.detach())
        optimizer.step()
        seen.append(weight.detach().clone())
    return torch.stack(seen)


def composed(direction, size, **settings):
    return partial(g.ComposableOptimizer, lr=LR, direction=direction, size=size, **settings)


@pytest.mark.parametrize("name", TORCHS)
def test_three_slots_reproduce_pytorchs_optimizers(name):
    direction, size, torchs = TORCHS[name]
    torch.testing.assert_close(path(composed(direction, size)), path(torchs))


@pytest.mark.parametrize(
    ("decay", "torchs"), [("decoupled", torch.optim.AdamW), ("l2", torch.optim.Adam)]
)
def test_both_places_of_weight_decay_are_pytorchs(decay, torchs):
    direction, size, _ = TORCHS["adam"]
    ours = composed(direction, size, weight_decay=0.3, decay=decay)
    torch.testing.assert_close(path(ours), path(lambda w: torchs(w, LR, weight_decay=0.3)))


def test_where_the_decay_stands_is_the_same_for_sgd_and_not_for_adam():
    """A note equates Adam + L2 with AdamW."""

    def gap(name):
        direction, size, _ = TORCHS[name]
        ours = [composed(direction, size, weight_decay=0.3, decay=d) for d in ("decoupled", "l2")]
        return (path(ours[0]) - path(ours[1])).abs().max().item()

    assert gap("sgd") < 1e-12
    assert gap("adam") > 1e-3


def test_the_two_forms_of_momentum_part_under_a_schedule():
    form_a, form_b = (composed(form(0.9), g.one) for form in (g.momentum, g.velocity))
    torch.testing.assert_close(path(form_a), path(form_b))
    rates = [LR / (1 + step) for step in range(STEPS)]
    assert (path(form_a, rates=rates) - path(form_b, rates=rates)).abs().max() > 0.01


def test_the_doubly_negated_momentum_of_one_note_climbs():
    """v = ρv − αg; x −= αv."""
    x, v, height = 1.0, 0.0, []
    for _ in range(50):
        v = 0.9 * v - 0.1 * x
        x -= 0.1 * v
        height.append(x * x / 2)
    assert height[-1] > height[0] > 0.5


def test_momentum_unrolled_is_a_weighted_sum_of_all_gradients():
    """m = Σ λ^(t−j) g_j."""
    torch.manual_seed(0)
    gradients, state = torch.randn(6, 4, dtype=torch.float64), {}
    for gradient in gradients:
        found = g.momentum(0.8)(gradient, state, 1.0)
    weights = 0.8 ** torch.arange(5, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(found, weights @ gradients)


def test_nesterov_in_a_notes_look_ahead_variables_is_pytorchs():
    """w −= ρ·old_v − (1+ρ)·v with v = ρ·old_v − α·g(w): w is where momentum leads."""
    torch.manual_seed(0)
    w, v, seen = torch.randn(2, 3, dtype=torch.float64) / 10, 0, []
    for _ in range(STEPS):
        old, v = v, 0.9 * v - LR * slope(w)
        w = w - (0.9 * old - (1 + 0.9) * v)
        seen.append(w)
    torch.testing.assert_close(path(composed(g.nesterov(0.9), g.one)), torch.stack(seen))


def test_a_mean_in_adagrad_takes_its_decay_away():
    """One note divides Σ g² by t. At a constant slope: lr / √t against lr."""
    for size, expected in ((g.root_sum(), 1 / sqrt(16)), (g.root_mean(), 1.0)):
        state = {}
        for step in range(1, 17):
            state["step"] = step
            sigma = size(torch.tensor([3.0]), state)
        assert (3.0 / sigma).item() == pytest.approx(expected)


def test_bias_correction_makes_the_first_step_as_long_as_the_rate():
    """Uncorrected it is (1 − β₁) / √(1 − β₂) = 3.16 times longer."""
    for corrected, expected in ((True, 1.0), (False, 0.1 / sqrt(0.001))):
        ours = composed(
            g.average(0.9, corrected=corrected), g.root_average(0.999, corrected=corrected)
        )
        start = torch.full((2, 3), 0.5, dtype=torch.float64)
        moved = (path(ours, start=start)[0] - 0.5).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, LR * expected), rtol=1e-4, atol=0)


def test_without_a_gradient_nothing_moves():
    weight = nn.Parameter(torch.ones(2))
    composed(g.gradient, g.one)([weight]).step()
    assert weight.tolist() == [1.0, 1.0]
