import numpy as np
import pytest
import torch
from curvature import subjects
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from thalweg.curvature import (
    Operator,
    Surface,
    density,
    hessian,
    lanczos,
    matrix_operator,
    trace,
)


def with_eigenvalues(values, seed=0):
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(square).Q
    return basis @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ basis.T


def bulk_and_outliers(size=400):
    """What a network's spectrum looks like: outliers, a bulk near zero, a negative tail."""
    rng = np.random.default_rng(0)
    bulk = np.concatenate([rng.exponential(0.3, size - 60), -rng.exponential(0.1, 50)])
    return np.sort(np.concatenate([bulk, np.linspace(5, 40, 10)]))


def wasserstein(nodes, weights, truth):
    """W1 between point masses and equally weighted eigenvalues."""
    places = np.sort(np.concatenate([nodes, truth]))
    share = np.array([weights[nodes <= place].sum() for place in places])
    real = np.searchsorted(truth, places, side="right") / len(truth)
    return float((np.abs(share - real)[:-1] * np.diff(places)).sum())


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=2, max_size=30),
    st.integers(0, 99),
)
def test_bounds_hold_for_any_spectrum(values, seed):
    values = np.sort(values)
    found = lanczos(matrix_operator(with_eigenvalues(values)), top=1, bottom=1, seed=seed)
    for value, residual in zip(found.values, found.residuals, strict=True):
        slack = 1e-9 * max(1.0, np.abs(values).max())
        assert np.abs(values - value).min() <= residual + slack
    gram = found.basis @ found.basis.T
    assert float((gram - torch.eye(found.steps, dtype=torch.float64)).abs().max()) < 1e-9


def test_stops_early_and_within_tolerance():
    values = bulk_and_outliers()
    operator = matrix_operator(with_eigenvalues(values))
    found = lanczos(operator, top=5, bottom=1, tolerance=1e-4)
    assert found.converged
    assert operator.products == found.steps < 100
    error = np.abs(np.r_[found.values[-5:], found.values[0]] - np.r_[values[-5:], values[0]])
    assert error.max() <= 1e-4 * values[-1]


def test_repeated_eigenvalues_are_counted():
    values = np.array([-1.0, 2.0, 2.0, 2.0, 5.0])
    found = lanczos(matrix_operator(with_eigenvalues(values)), top=5, bottom=0)
    np.testing.assert_allclose(found.values, values, atol=1e-12)


def test_the_zero_matrix():
    found = lanczos(matrix_operator(torch.zeros(7, 7, dtype=torch.float64)))
    assert not found.values.any()
    assert density(found).shares(0.0) == (0, 1, 0)


def test_a_warm_start_saves_products():
    operator = matrix_operator(with_eigenvalues(bulk_and_outliers()))
    cold = lanczos(operator, top=1, bottom=0)
    warm = lanczos(operator, top=1, bottom=0, start=cold.vectors([-1])[0])
    assert warm.steps < cold.steps
    assert warm.values[-1] == pytest.approx(cold.values[-1], rel=1e-4)


def test_float32_products_blur_and_the_bound_says_how_much():
    values = bulk_and_outliers()
    matrix = with_eigenvalues(values).float()
    found = lanczos(matrix_operator(matrix), tolerance=1e-9)
    error = np.abs(found.values[-5:] - values[-5:])
    assert (error <= found.errors[-5:]).all()
    assert found.errors[-5:].max() < 1e-5 * values[-1]


def test_not_symmetric_is_an_error():
    matrix = torch.randn(50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="not symmetric"):
        lanczos(Operator(lambda v: matrix @ v, 50, torch.float64))


@pytest.mark.slow
def test_the_trace_interval_covers_the_truth():
    """95 % intervals over 200 seeds, with the sequential stop that `spectrum` uses."""
    values = bulk_and_outliers()
    operator = matrix_operator(with_eigenvalues(values))
    covered = 0
    for seed in range(200):
        basis = lanczos(operator, min_steps=20, max_steps=20, seed=seed)
        found = trace(operator, basis, probes=40, precision=0.02, seed=1000 + seed)
        covered += found.low <= values.sum() <= found.high
    print(f"covered {covered} of 200")
    assert covered >= 186


def trained_net():
    """The subject of most papers: a small classifier, trained for a while. 2,036 weights."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 20)
    targets = (inputs @ torch.randn(20, 10) + torch.randn(512, 10)).argmax(1)
    layers = (torch.nn.Linear(20, 50), torch.nn.Tanh(), torch.nn.Linear(50, 16))
    model = torch.nn.Sequential(*layers, torch.nn.Tanh(), torch.nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model, inputs, targets


@pytest.mark.slow
def test_density_and_trace_of_a_trained_net():
    """W1 ≤ 0.5 % of the range at 100 products; the trace covered in ≥ 93 % of 200 seeds."""
    model, inputs, targets = trained_net()
    twin = torch.nn.Sequential(*model).double()
    truth = torch.linalg.eigvalsh(subjects.written_out(twin, [(inputs.double(), targets)])).numpy()
    model = twin.float()
    worst, covered = 0.0, 0
    with Surface(model, F.cross_entropy, [(inputs, targets)]) as surface:
        operator = hessian(surface)
        for seed in range(200):
            basis = lanczos(operator, min_steps=60, max_steps=60, seed=seed)
            found = trace(operator, basis, precision=0.02, seed=1000 + seed)
            covered += found.low <= truth.sum() <= found.high
        for seed in range(10):
            seen = density(lanczos(operator, min_steps=100, max_steps=100, seed=seed))
            distance = wasserstein(seen.nodes, seen.weights, truth) / (truth[-1] - truth[0])
            worst = max(worst, distance)
    print(f"W1/range at worst of 10 seeds {worst:.4f}; trace covered {covered} of 200")
    assert worst <= 0.005
    assert covered >= 186


def test_counting_outliers_brings_the_density_nearer_to_the_truth():
    values = bulk_and_outliers()
    operator, plain, ours = matrix_operator(with_eigenvalues(values)), [], []
    for seed in range(20):
        basis = lanczos(operator, min_steps=60, max_steps=60, seed=seed)
        seen = density(basis)
        ours.append(wasserstein(seen.nodes, seen.weights, values))
        plain.append(wasserstein(basis.values, basis.coordinates[0] ** 2, values))
        assert seen.weights.sum() == pytest.approx(1)
    assert np.mean(ours) < 0.6 * np.mean(plain)
