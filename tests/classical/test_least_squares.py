"""Closed forms against scikit-learn and gradient descent."""

from importlib import import_module

import numpy as np
import pytest
import torch
from classical.agreement import agree, as_users_run_it, bytes_like, normal
from sklearn.linear_model import LinearRegression, Ridge

from thalweg.classical import (
    RidgePath,
    choose_by_folds,
    choose_by_gcv,
    folds,
    least_squares,
    moments,
    one_hot,
    penalties,
    ridge,
    streamed_moments,
)
from thalweg.errors import DataError, UsageError

X = normal(200, 12, seed=1, dtype=torch.float64) @ normal(12, 12, seed=2, dtype=torch.float64) + 3
Y = X @ normal(12, 3, seed=3, dtype=torch.float64) + normal(200, 3, seed=4, dtype=torch.float64)


def test_without_a_penalty_it_is_ordinary_least_squares():
    fit, peer = least_squares(X, Y), LinearRegression().fit(X, Y)
    agree(fit.map.weight, peer.coef_.T, digits=9)
    agree(fit.map.bias, peer.intercept_, digits=9)
    agree(fit.map(X), peer.predict(X), digits=9)
    agree(fit.condition, np.linalg.cond((X - X.mean(0)).numpy()))
    assert not fit.singular
    assert fit.rank == 12


@pytest.mark.parametrize("penalty", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("rows", [200, 8], ids=["tall", "wide"])
def test_with_a_penalty_it_is_scikit_learn_s_ridge(rows, penalty):
    peer = Ridge(alpha=penalty, solver="svd").fit(X[:rows], Y[:rows])
    known = moments(X[:rows], Y[:rows])
    fits = (
        least_squares(X[:rows], Y[:rows], penalty=penalty),
        ridge(known, penalty=penalty),
        RidgePath.of(known).fit(penalty),
    )
    for fit in fits:
        agree(fit.map.weight, peer.coef_.T, digits=6)
        agree(fit.map.bias, peer.intercept_, digits=6)
        assert not fit.singular


def test_it_is_where_gradient_descent_ends():
    x, y, penalty = (X - X.mean(0)) / X.std(0), Y - Y.mean(0), 5.0
    weight = torch.zeros(12, 3, dtype=torch.float64)
    rate = 1 / (torch.linalg.matrix_norm(x, 2) ** 2 + penalty)
    for _ in range(3000):
        weight -= rate * (x.T @ (x @ weight - y) + penalty * weight)
    agree(least_squares(x, y, penalty=penalty).map.weight, weight, digits=9)


def test_the_gradient_of_the_loss_is_zero_there_by_autograd():
    weight = least_squares(X, Y, penalty=2.0).map.weight.requires_grad_()
    bias = least_squares(X, Y, penalty=2.0).map.bias.requires_grad_()
    loss = (X @ weight + bias - Y).square().sum() + 2.0 * weight.square().sum()
    start = Y.square().sum()
    assert all(g.abs().max() < 1e-9 * start for g in torch.autograd.grad(loss, (weight, bias)))


def test_the_bias_trick_is_the_bias():
    # A column of ones with as good as no penalty on it; the other columns unpenalised too.
    ones = torch.cat((X, torch.ones(200, 1, dtype=torch.float64)), dim=1)
    trick = torch.linalg.lstsq(ones, Y).solution
    fit = least_squares(X, Y)
    agree(torch.cat((fit.map.weight, fit.map.bias[None])), trick, digits=9)


SINGULAR = {
    "repeated column": torch.cat((X, X[:, :2]), dim=1),
    "constant column": torch.cat((X, torch.full((200, 1), 7.0, dtype=torch.float64)), dim=1),
    "fewer samples than features": X[:8],
    "one sample": X[:1],
}


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_data_give_the_smallest_solution_and_say_so(name):
    x = SINGULAR[name]
    y = Y[: len(x)]
    centred_x, centred_y = x - x.mean(0), y - y.mean(0)
    smallest = np.linalg.pinv(centred_x.numpy(), rcond=1e-10) @ centred_y.numpy()
    rank = int(np.linalg.matrix_rank(centred_x.numpy(), tol=1e-8))
    for fit in (least_squares(x, y), ridge(moments(x, y), penalty=0.0)):
        agree(fit.map.weight, smallest, digits=5)
        assert fit.singular
        assert fit.rank == rank
        assert torch.isfinite(fit.map.bias).all()


def test_one_path_serves_every_penalty():
    known = moments(X, Y)
    path = RidgePath.of(known)
    previous = float("inf")
    for penalty in penalties(known):
        weight = path.fit(penalty).map.weight
        agree(weight, ridge(known, penalty=penalty).map.weight, digits=8)
        assert weight.norm() < previous  # a larger penalty, smaller weights
        previous = weight.norm()


def test_streamed_moments_are_those_of_all_rows_at_once():
    parts = [(X[a:b], Y[a:b]) for a, b in ((0, 1), (1, 90), (90, 200))]
    streamed, whole = streamed_moments(iter(parts)), moments(X, Y)
    x, y = X - X.mean(0), Y - Y.mean(0)
    for known in (streamed, whole):
        assert known.count == 200
        agree(known.gram, x.T @ x, digits=12)
        agree(known.cross, x.T @ y, digits=12)
        agree(known.mean_inputs, X.mean(0), digits=12)
        agree(known.target_squares, y.square().sum(0), digits=12)


def test_float32_far_from_the_origin_loses_no_more_than_float32_must():
    far = (normal(6000, 4, seed=5) + 1e4, normal(6000, 1, seed=6))
    exact = far[0].double() - far[0].double().mean(0)
    agree(moments(*far).gram, exact.T @ exact, digits=4)


def test_bytes_are_fitted_as_numbers():
    x = bytes_like(300, 9, seed=1)
    y = x.double() @ normal(9, 1, seed=2, dtype=torch.float64)
    agree(least_squares(x, y).map(x), y, digits=5)
    agree(least_squares(x, y, penalty=1.0).map(x), y, digits=4)


def test_bytes_multiplied_as_bytes_have_exact_moments(monkeypatch):
    x, y = bytes_like(5000, 20, seed=1), normal(5000, 2, seed=2)
    module = import_module("thalweg.classical.moments")
    monkeypatch.setattr(module, "_int8_is_faster", lambda inputs: True)
    known, exact = moments(x, y), moments(x.double(), y.double())
    agree(known.gram, exact.gram, digits=12)
    agree(known.mean_inputs, exact.mean_inputs, digits=12)
    agree(known.cross, exact.cross, digits=6)
    assert torch.equal(y, normal(5000, 2, seed=2))  # what was given is left as it was


def test_gcv_is_its_formula_with_the_dense_hat_matrix():
    choices = (0.1, 1.0, 10.0, 100.0, 1000.0)
    y = Y[:, :1]
    chosen = choose_by_gcv(moments(X, y), candidates=choices)
    x = X - X.mean(0)
    for penalty in choices:
        hat = x @ torch.linalg.solve(x.T @ x + penalty * torch.eye(12).double(), x.T) + 1 / 200
        residual = (y - hat @ y).square().mean() / (1 - hat.trace() / 200) ** 2
        agree(chosen.scores[penalty].mean, residual, digits=6)


def test_gcv_of_a_fit_with_no_freedom_left_is_infinite():
    path = RidgePath.of(moments(X[:8], Y[:8]))
    assert path.gcv(0.0) == float("inf")
    assert path.gcv(1.0) < float("inf")


def test_folds_choose_the_penalty_of_lowest_held_out_error():
    x = normal(60, 40, seed=7, dtype=torch.float64)
    y = x[:, :2].sum(1, keepdim=True) + normal(60, 1, seed=8, dtype=torch.float64)
    splits = folds(y[:, 0], num_folds=4)
    chosen = choose_by_folds(x, y, splits, candidates=(1e-3, 10.0, 1e6))
    for penalty, score in chosen.scores.items():
        for (train, val), value in zip(splits, score.values, strict=True):
            peer = Ridge(alpha=penalty).fit(x[train], y[train])
            agree(value, np.square(peer.predict(x[val]).ravel() - y[val].numpy().ravel()).mean())
    assert chosen.fit.penalty == 10.0
    assert len(choose_by_folds(x, y, splits).scores) == 13


def test_classification_as_regression_can_exceed_one():
    classes = torch.arange(200) % 3
    targets = one_hot(classes, num_classes=3)
    fit = least_squares(X + 9 * targets.double() @ normal(3, 12, dtype=torch.float64), targets)
    x = 5 * X
    assert fit.map(x).max() > 1
    agree(fit.map(x).sum(1), torch.ones(200), digits=9)  # the columns of the targets sum to 1


ERRORS = [
    ({"penalty": -1.0}, UsageError, "penalty must be a finite number ≥ 0"),
    ({"penalty": float("nan")}, UsageError, "seen: penalty=nan"),
    ({"inputs": torch.full((3, 2), torch.nan)}, DataError, "nan in row 0, column 0"),
    ({"inputs": torch.zeros(0, 2)}, DataError, "at least one row"),
    ({"targets": torch.zeros(4, 1)}, DataError, "same number of rows"),
    ({"targets": torch.zeros(4, 1), "penalty": 1.0}, DataError, "same number of rows"),
    ({"inputs": torch.tensor([[1e200], [-1e200], [0.0]]).double(), "penalty": 1.0}, DataError, "f"),
]


@pytest.mark.parametrize(("change", "kind", "message"), ERRORS, ids=lambda p: str(p)[:20])
def test_what_cannot_be_fitted_is_said(change, kind, message):
    asked = {"inputs": normal(3, 2), "targets": normal(3, 1)} | change
    with pytest.raises(kind, match=message):
        as_users_run_it(least_squares)(**asked)


def test_nothing_streamed_or_no_split_is_said():
    with pytest.raises(DataError, match="nothing to fit"):
        streamed_moments([])
    with pytest.raises(UsageError, match="no split"):
        choose_by_folds(X, Y, [])
