import copy
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from curvature import subjects
from torch import nn
from torch.nn import functional as F

from thalweg.curvature import (
    CurvatureError,
    LossNotDeterministicError,
    LossNotFiniteError,
    NotTwiceDifferentiableError,
    Surface,
    dense_matrix,
    gauss_newton,
    hessian,
    products,
    spectrum,
)
from thalweg.errors import UsageError

MODELS = [subjects.mlp, subjects.convolutional, subjects.recurrent, subjects.attentive]
CASES = [(build, mode) for build in MODELS for mode in ("eval", "train")]


@pytest.mark.parametrize(("build", "mode"), CASES)
@pytest.mark.parametrize("graph", ["keep", "rebuild"])
def test_hessian_is_the_one_torch_writes_out(build, mode, graph):
    model, inputs, targets = subjects.built(build)
    model.train(mode == "train")
    truth = subjects.written_out(model, [(inputs, targets)])
    with Surface(model, F.cross_entropy, [(inputs, targets)], batch_norm=mode) as surface:
        ours = dense_matrix(hessian(surface, graph=graph))
    torch.testing.assert_close(ours, truth, rtol=0, atol=1e-10 * float(truth.abs().max()))


@pytest.mark.parametrize(("build", "mode"), CASES)
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_eigenvalues_against_the_dense_hessian(build, mode, dtype, bar):
    model, inputs, targets = subjects.built(build)
    model.train(mode == "train")
    truth = torch.linalg.eigvalsh(subjects.written_out(model, [(inputs, targets)])).numpy()
    found = spectrum(
        model.to(dtype),
        F.cross_entropy,
        [(inputs.to(dtype), targets)],
        batch_norm=mode,
        tolerance=bar / 10,
        bottom=3,
        probes=0,
        steps=0,
    )
    assert found.converged
    errors = np.abs(np.r_[found.top, found.bottom] - np.r_[truth[::-1][:5], truth[:3]])
    assert errors.max() <= bar * truth[-1]
    said = np.r_[found.top_errors, found.bottom_errors]
    assert (errors <= said + 1e-12).all(), "an error larger than the bound that was given for it"


def test_gauss_newton_is_the_jacobian_sandwich():
    model, inputs, targets = subjects.built(subjects.mlp)
    names = list(dict(model.named_parameters()))

    def logits(*weights):
        return torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (inputs,))

    weights = tuple(weight.detach() for weight in model.parameters())
    jacobians = torch.func.jacrev(logits, argnums=tuple(range(len(names))))(*weights)
    jacobian = torch.cat([j.reshape(72, -1) for j in jacobians], 1)
    outputs = logits(*weights).detach()
    inner = torch.autograd.functional.hessian(
        lambda z: F.cross_entropy(z, targets), outputs
    ).reshape(72, 72)
    truth = jacobian.T @ inner @ jacobian
    with Surface(model, F.cross_entropy, [(inputs, targets)]) as surface:
        for graph in ("keep", "rebuild"):
            torch.testing.assert_close(dense_matrix(gauss_newton(surface, graph=graph)), truth)


@pytest.mark.parametrize("matrix", ["hessian", "gauss-newton"])
def test_ragged_batches_weigh_as_one(matrix):
    model, inputs, targets = subjects.built(subjects.mlp, torch.float32)
    ragged = [(inputs[a:b], targets[a:b]) for a, b in ((0, 13), (13, 23), (23, 24))]
    whole = spectrum(model, F.cross_entropy, [(inputs, targets)], matrix=matrix)
    parts = spectrum(model, F.cross_entropy, ragged, matrix=matrix)
    np.testing.assert_allclose(parts.top, whole.top, rtol=0, atol=1e-5 * whole.top[0])
    np.testing.assert_allclose(parts.bottom, whole.bottom, rtol=0, atol=1e-5 * whole.top[0])
    assert parts.trace.value == pytest.approx(whole.trace.value, rel=1e-5)


def test_a_choice_of_weights_is_a_block_of_the_whole():
    model, inputs, targets = subjects.built(subjects.mlp)
    whole = subjects.written_out(model, [(inputs, targets)])
    with Surface(model, F.cross_entropy, [(inputs, targets)], weights=["2.*"]) as surface:
        assert surface.names == ["2.weight", "2.bias"]
        torch.testing.assert_close(dense_matrix(hessian(surface)), whole[42:, 42:])
    with pytest.raises(UsageError, match=r"no weight is called '2.wieght'.*\n.*\n.*2.weight"):
        Surface(model, F.cross_entropy, [(inputs, targets)], weights=["2.wieght"])


def test_tied_and_frozen_weights():
    model, inputs, targets = subjects.built(
        lambda: (nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)), torch.randn(24, 5))
    )
    model[2].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    with Surface(model, F.cross_entropy, [(inputs, targets)]) as surface:
        assert surface.names == ["0.weight", "2.bias"]
        tied = dense_matrix(hessian(surface))
    weight, bias = model[0].weight.detach(), model[2].bias.detach()

    def loss(flat):
        shared = flat[:25].view(5, 5)
        hidden = torch.tanh(inputs @ shared.T + model[0].bias.detach())
        return F.cross_entropy(hidden @ shared.T + flat[25:], targets)

    truth = torch.autograd.functional.hessian(loss, torch.cat([weight.reshape(-1), bias]))
    torch.testing.assert_close(tied, truth)
    assert model[2].weight is model[0].weight


def test_a_linear_loss_has_no_curvature():
    model = nn.Linear(4, 1)
    with Surface(model, lambda out, _: out.mean(), [(torch.randn(3, 4), torch.zeros(3))]) as s:
        assert not dense_matrix(hessian(s)).any()


def test_float64_is_computed_on_a_float32_model():
    model, inputs, targets = subjects.built(subjects.recurrent, torch.float32)
    found = spectrum(model, F.cross_entropy, [(inputs, targets)], dtype=torch.float64)
    truth = subjects.written_out(model.double(), [(inputs.double(), targets)])
    assert found.top[0] == pytest.approx(float(torch.linalg.eigvalsh(truth)[-1]), rel=1e-8)


def state_of(model):
    return {
        "weights": [
            (id(w), w.clone(), w.grad is None or w.grad.clone(), w.requires_grad)
            for w in model.parameters()
        ],
        "buffers": [(id(b), b.clone()) for b in model.buffers()],
        "modes": [module.training for module in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
    }


def assert_as_before(model, before):
    after = state_of(model)
    for (i, w, g, r), (j, v, h, q) in zip(before["weights"], after["weights"], strict=True):
        assert (i, r) == (j, q)
        assert torch.equal(w, v)
        assert g is h if isinstance(g, bool) else torch.equal(g, h)
    for (i, b), (j, c) in zip(before["buffers"], after["buffers"], strict=True):
        assert i == j
        assert torch.equal(b, c)
    assert before["modes"] == after["modes"]
    assert torch.equal(before["torch"], after["torch"])
    assert all(np.array_equal(a, b) for a, b in zip(before["numpy"], after["numpy"], strict=True))


class Faulty(nn.Module):
    """A model with normalisation and dropout, and one fault behind them."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.body = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.fault(self.head(self.body(inputs)))


class NumpySquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


class HiddenSquare(NumpySquare):
    @staticmethod
    def backward(ctx, slope):
        return (2 * ctx.saved_tensors[0] * slope).detach()


def draw_numbers(x):
    return x + 0.1 * torch.randn_like(x) + float(np.random.rand()) + random.random()  # noqa: NPY002


def bare_root(x):
    return (x - x).abs().sqrt() * 0 + x


FAULTS = [
    (nn.Identity(), None, ""),
    (draw_numbers, LossNotDeterministicError, "draws random numbers"),
    (NumpySquare.apply, NotTwiceDifferentiableError, "once_differentiable"),
    (HiddenSquare.apply, NotTwiceDifferentiableError, "hides how"),
    (lambda x: x * torch.nan, LossNotFiniteError, "the output of Faulty"),
    (bare_root, CurvatureError, "not finite"),
    (lambda x: dict[str, Any]()["key"], KeyError, "key"),
]


@pytest.mark.parametrize(("fault", "error", "words"), FAULTS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_model_is_left_as_found_whatever_happens(fault, error, words, mode):
    torch.manual_seed(0)
    model, inputs = Faulty(fault), torch.randn(8, 5)
    model.train()
    model.body[1].eval()
    model.head.bias.grad = torch.ones(3)
    targets, before = torch.randint(0, 3, (8,)), state_of(model)
    if error is None:
        spectrum(model, F.cross_entropy, [(inputs, targets)], batch_norm=mode)
    else:
        with pytest.raises(error, match=words):
            spectrum(model, F.cross_entropy, [(inputs, targets)], batch_norm=mode)
    assert_as_before(model, before)


def test_not_a_number_in_a_weight_is_named():
    model, inputs, targets = subjects.built(subjects.mlp)
    with torch.no_grad():
        model[2].bias[1] = torch.nan
    with pytest.raises(LossNotFiniteError, match=r"weight 2\.bias"):
        spectrum(model, F.cross_entropy, [(inputs, targets)])


def test_no_data_is_named():
    with pytest.raises(UsageError, match="no data"):
        spectrum(nn.Linear(2, 2), F.cross_entropy, iter([]))


def test_inside_no_grad_inference_mode_and_compiled():
    model, inputs, targets = subjects.built(subjects.mlp)
    plain = spectrum(model, F.cross_entropy, [(inputs, targets)], probes=0)
    with torch.no_grad():
        assert spectrum(model, F.cross_entropy, [(inputs, targets)], probes=0).top == plain.top
    with torch.inference_mode():
        clone = copy.deepcopy(model)
        batch = (inputs.clone(), targets.clone())
        assert spectrum(clone, F.cross_entropy, [batch], probes=0).top == plain.top


def test_the_random_state_of_python_comes_back():
    """In a process of its own: the checks of shapes in this one draw from that state."""
    program = """
import random, torch
from thalweg.curvature import spectrum
class Noisy(torch.nn.Linear):
    def forward(self, x):
        random.random()
        return super().forward(x)
state = random.getstate()
spectrum(Noisy(2, 1), torch.nn.functional.mse_loss, [(torch.eye(2), torch.ones(2, 1))])
assert random.getstate() == state
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_loss_in_which_samples_meet_is_not_cut(monkeypatch):
    """Work goes on in small parts, but only where the loss is a mean over samples."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(3, 2).double(), torch.randn(300, 3).double()
    batch = (inputs, torch.zeros(300))

    def spread(outputs, _):
        return (outputs - outputs.mean(0)).square().mean() ** 2

    def mean_square(outputs, _):
        return outputs.square().mean()

    for loss_fn in (spread, mean_square):
        with Surface(model, loss_fn, [batch]) as surface:
            kept = dense_matrix(hessian(surface, graph="keep"))
            torch.testing.assert_close(dense_matrix(hessian(surface, graph="rebuild")), kept)
            monkeypatch.setattr(products, "SMALL_GRAPH", 1000)  # bytes: held in parts, if allowed
            torch.testing.assert_close(dense_matrix(hessian(surface, graph="keep")), kept)
            monkeypatch.undo()


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.slow
def test_a_large_graph_is_held_in_parts_unless_batch_norm_forbids(monkeypatch, mode):
    monkeypatch.setattr(products, "SMALL_GRAPH", 10_000)
    model, inputs, targets = subjects.built(subjects.convolutional)
    model.train(mode == "train")
    truth = subjects.written_out(model, [(inputs, targets)])
    with Surface(model, F.cross_entropy, [(inputs, targets)], batch_norm=mode) as surface:
        before = surface.passes
        operator = hessian(surface, graph="keep")
        assert (surface.passes - before > 2) == (mode == "eval")
        torch.testing.assert_close(
            dense_matrix(operator), truth, rtol=0, atol=1e-8 * float(truth.norm())
        )
