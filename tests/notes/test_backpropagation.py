"""How gradients are computed: by hand, by gates, by differences."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import jacrev, vjp

from thalweg.tasks.losses import LOSSES


class Value:
    """A number that remembers what it came from: (parent, local gradient) pairs."""

    def __init__(self, number, parents=()):
        self.number, self.parents, self.gradient = number, parents, 0.0

    def __add__(self, other):
        return Value(self.number + other.number, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        return Value(self.number * other.number, ((self, other.number), (other, self.number)))

    def sigmoid(self):
        s = 1 / (1 + math.exp(-self.number))
        return Value(s, ((self, s * (1 - s)),))

    def maximum(self, other):
        first = float(self.number >= other.number)
        return Value(max(self.number, other.number), ((self, first), (other, 1 - first)))

    def backward(self):
        """Downstream = upstream × local, from the end to the beginning."""
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.gradient = 1.0
        for node in reversed(order):
            for parent, local in node.parents:
                parent.gradient += node.gradient * local


def test_a_graph_of_gates_gives_the_gradients_of_autograd():
    """The lecture's neuron, σ(w₀x₀ + w₁x₁ + w₂), and a max beside it."""
    numbers = [2.0, -1.0, -3.0, -2.0, -3.0]
    w0, x0, w1, x1, w2 = ours = [Value(n) for n in numbers]
    neuron = (w0 * x0 + w1 * x1 + w2).sigmoid()
    (neuron.maximum(w0 * w2) * w0).backward()
    theirs = [torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in numbers]
    a0, b0, a1, b1, a2 = theirs
    (torch.maximum(torch.sigmoid(a0 * b0 + a1 * b1 + a2), a0 * a2) * a0).backward()
    assert [value.gradient for value in ours] == pytest.approx([t.grad.item() for t in theirs])


def test_the_lectures_neuron_has_the_lectures_numbers():
    """0.73 forward; 0.20 into the sum, −0.39 and −0.59 at w₀ and w₁'s products."""
    w0, x0, w1, x1, w2 = ours = [Value(n) for n in (2.0, -1.0, -3.0, -2.0, -3.0)]
    neuron = (w0 * x0 + w1 * x1 + w2).sigmoid()
    neuron.backward()
    assert neuron.number == pytest.approx(0.73, abs=0.005)
    seen = [round(value.gradient, 2) for value in ours]
    assert seen == [-0.2, 0.39, -0.39, -0.59, 0.2]


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        pytest.param(lambda a, b: a + b, (7.0, 7.0), id="add distributes"),
        pytest.param(lambda a, b: a * b, (7.0 * 5, 7.0 * 3), id="mul swaps"),
        pytest.param(torch.maximum, (0.0, 7.0), id="max routes"),
        pytest.param(lambda a, b: a + a + 0 * b, (14.0, 0.0), id="copy adds"),
    ],
)
def test_gates_have_their_patterns(gate, expected):
    """Upstream 7, inputs 3 and 5."""
    a, b = (torch.tensor(n, requires_grad=True) for n in (3.0, 5.0))
    (7 * gate(a, b)).backward()
    assert (a.grad.item(), b.grad.item()) == expected


def test_a_layers_backward_pass_forms_no_jacobian():
    """∂L/∂X = ∂L/∂Y Wᵀ, of X's shape: the product with the Jacobian."""
    torch.manual_seed(0)
    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    upstream = torch.randn(4, 5, dtype=torch.float64)
    jacobian = jacrev(lambda x: x @ w)(x)  # 4 × 5 × 4 × 3: already 240 numbers, mostly zeros
    assert jacobian.shape == (4, 5, 4, 3)
    assert (jacobian == 0).double().mean() == 0.75
    downstream = vjp(lambda x: x @ w, x)[1](upstream)[0]
    assert downstream.shape == x.shape
    torch.testing.assert_close(downstream, torch.einsum("ij,ijkl->kl", upstream, jacobian))
    torch.testing.assert_close(downstream, upstream @ w.T)
    assert torch.equal(vjp(lambda w: x @ w, w)[1](upstream)[0], x.T @ upstream)


class SoftmaxCrossEntropy(torch.autograd.Function):
    """A node of one's own: forward keeps what backward needs."""

    @staticmethod
    def forward(ctx, logits, targets):
        shares = logits.softmax(1)
        ctx.save_for_backward(shares, targets)
        return -shares[torch.arange(len(targets)), targets].log().mean()

    @staticmethod
    def backward(ctx, upstream):
        shares, targets = ctx.saved_tensors
        return upstream * (shares - F.one_hot(targets, shares.shape[1])) / len(targets), None


def test_a_node_of_ones_own_is_checked_like_any():
    """Its gradient is softmax − one-hot, as our loss's."""
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, 1, 1])
    assert torch.autograd.gradcheck(SoftmaxCrossEntropy.apply, (logits, targets))
    (own,) = torch.autograd.grad(SoftmaxCrossEntropy.apply(logits, targets), logits)
    (ours,) = torch.autograd.grad(LOSSES["cross_entropy"](logits, targets), logits)
    torch.testing.assert_close(own, ours)


def two_layers_by_hand(x, y, w1, w2, *, lr, steps):
    """CS231n's twenty lines: sigmoid hidden layer, sum of squares, gradients by hand."""
    losses = []
    for _ in range(steps):
        hidden = 1 / (1 + np.exp(-x @ w1))
        out = hidden @ w2
        losses.append(np.square(out - y).sum())
        grad_out = 2.0 * (out - y)
        grad_w2 = hidden.T @ grad_out
        grad_hidden = grad_out @ w2.T
        grad_w1 = x.T @ (grad_hidden * hidden * (1 - hidden))
        w1, w2 = w1 - lr * grad_w1, w2 - lr * grad_w2
    return losses, (grad_w1, grad_w2), (w1, w2)


def test_the_twenty_lines_run_and_their_gradients_are_autograds():
    """64 × 1000 → 100 → 10, lr 1e-4. A note's names do not match (E23)."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 1000)), rng.standard_normal((64, 10))
    w1, w2 = rng.standard_normal((1000, 100)), rng.standard_normal((100, 10))
    _, by_hand, _ = two_layers_by_hand(x, y, w1, w2, lr=1e-4, steps=1)
    t1, t2 = (torch.tensor(w, requires_grad=True) for w in (w1, w2))
    (torch.sigmoid(torch.tensor(x) @ t1) @ t2 - torch.tensor(y)).square().sum().backward()
    for hand, auto in zip(by_hand, (t1.grad, t2.grad), strict=True):
        assert np.abs(hand - auto.numpy()).max() < 1e-6 * np.abs(hand).max()
    losses, _, _ = two_layers_by_hand(x, y, w1, w2, lr=1e-4, steps=600)
    assert losses[-1] < 0.02 * losses[0]


def relative_error(analytic, numeric):
    return ((analytic - numeric).norm() / (analytic.norm() + numeric.norm())).item()


def central_difference(function, x, step):
    flat = torch.zeros_like(x).flatten()
    for index in range(x.numel()):
        shift = torch.zeros_like(flat)
        shift[index] = step
        up, down = function(x + shift.view_as(x)), function(x - shift.view_as(x))
        flat[index] = (up - down) / (2 * step)
    return flat.view_as(x)


@pytest.mark.parametrize("name", LOSSES)
def test_central_differences_confirm_our_losses(name):
    """Below 1e-7: "probably right" in the lecture; a wrong factor shows."""
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 1])

    def loss(x):
        return LOSSES[name](x, targets)

    variable = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(variable), variable)
    numeric = central_difference(loss, logits, 1e-5)
    assert relative_error(gradient, numeric) < 1e-7
    assert relative_error(1.01 * gradient, numeric) > 1e-3


def test_the_step_of_a_difference_must_be_neither_large_nor_small():
    """Error h² above, ε/h below; one-sided differences err by h."""
    x = torch.tensor([0.7], dtype=torch.float64)
    errors = {
        step: abs(central_difference(lambda x: x.exp().sum(), x, step) - x.exp()).item()
        for step in (1e-1, 1e-5, 1e-12)
    }
    assert errors[1e-5] < 1e-9 < 1e-6 < min(errors[1e-1], errors[1e-12])
    one_sided = ((x + 1e-5).exp() - x.exp()) / 1e-5
    assert abs(one_sided - x.exp()).item() > 1e4 * errors[1e-5]


def test_the_gradient_points_where_the_loss_grows_fastest():
    """Of a thousand directions of one length none climbs more; hence subtract it."""
    torch.manual_seed(0)
    place = torch.randn(5, dtype=torch.float64, requires_grad=True)

    def height(w):
        return (w.sin() * torch.arange(1.0, 6.0, dtype=torch.float64)).sum() + w.square().sum()

    (gradient,) = torch.autograd.grad(height(place), place)
    ways = F.normalize(torch.randn(1000, 5, dtype=torch.float64), dim=1)
    climbs = torch.stack([height(place + 1e-4 * way) - height(place) for way in ways])
    steepest = height(place + 1e-4 * F.normalize(gradient, dim=0)) - height(place)
    assert steepest > climbs.max() > 0
    assert height(place - 1e-4 * gradient) < height(place)


def test_descent_needs_a_gradient_and_not_back_propagation():
    """A note calls them one (E4): differences lead to the same place."""
    target = torch.tensor([1.0, -2.0], dtype=torch.float64)

    def height(w):
        return (w - target).square().sum()

    by_backward = by_differences = torch.zeros(2, dtype=torch.float64)
    for _ in range(50):
        variable = by_backward.clone().requires_grad_()
        by_backward = by_backward - 0.1 * torch.autograd.grad(height(variable), variable)[0]
        by_differences = by_differences - 0.1 * central_difference(height, by_differences, 1e-5)
    torch.testing.assert_close(by_backward, by_differences)
    torch.testing.assert_close(by_backward, target, atol=1e-3, rtol=0)
