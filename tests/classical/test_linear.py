"""Linear classifiers at their minimum, by several witnesses."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from classical.agreement import agree, as_users_run_it, normal
from scipy.optimize import linprog
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch.nn import functional as F

from thalweg.classical import linear_classifier
from thalweg.classical.lbfgs import minimise
from thalweg.classical.linear_losses import multiclass_hinge, softmax, squared_hinge
from thalweg.errors import DataError, TrainingError, UnknownNameError, UsageError

CLASSES = torch.arange(300) % 4
X = normal(4, 6, seed=1, dtype=torch.float64)[CLASSES] + normal(300, 6, seed=2, dtype=torch.float64)

LOSSES = {
    "softmax": softmax,
    "hinge": multiclass_hinge(),
    "hinge, margin 3": multiclass_hinge(margin=3.0),
    "rounded hinge": multiclass_hinge(smoothing=0.7),
    "squared hinge": squared_hinge,
}


def svm_of_the_notes(scores, targets, margin):
    """Σ_{j≠y} max(0, s_j − s_y + margin), in loops."""
    total = 0.0
    for row, y in zip(scores.tolist(), targets.tolist(), strict=True):
        total += sum(max(0.0, s - row[y] + margin) for j, s in enumerate(row) if j != y)
    return total


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    scores = 2 * normal(9, 5, seed=3, dtype=torch.float64)
    targets = torch.arange(9) % 5
    _, gradient = LOSSES[name](scores.clone(), targets)
    numeric, step = torch.zeros_like(scores), 1e-6
    for place in range(scores.numel()):
        shift = torch.zeros_like(scores)
        shift.view(-1)[place] = step
        up, down = (LOSSES[name](scores + way * shift, targets)[0] for way in (1, -1))
        numeric.view(-1)[place] = (up - down) / (2 * step)
    agree(gradient, numeric)


def test_losses_are_torch_s_and_the_loops_of_the_notes():
    scores, targets = 2 * normal(50, 4, seed=3, dtype=torch.float64), torch.arange(50) % 4
    agree(softmax(scores, targets)[0], F.cross_entropy(scores, targets, reduction="sum"))
    for margin in (0.5, 1.0, 2.0):
        ours = multiclass_hinge(margin=margin)(scores, targets)[0]
        agree(ours, svm_of_the_notes(scores, targets, margin))
        # torch's divides by the number of classes.
        agree(ours, 4 * F.multi_margin_loss(scores, targets, margin=margin, reduction="sum"))
        for smoothing in (0.3, 1.5):
            rounded = multiclass_hinge(margin=margin, smoothing=smoothing)(scores, targets)[0]
            assert ours - 50 * 3 * smoothing / 2 <= rounded <= ours


def test_losses_of_knowing_nothing():
    scores, targets = torch.zeros(30, 10), torch.arange(30) % 10
    assert softmax(scores.clone(), targets)[0].item() / 30 == pytest.approx(math.log(10))
    assert multiclass_hinge()(scores, targets)[0].item() / 30 == 9


def test_softmax_holds_where_exponentials_would_overflow():
    loss, gradient = softmax(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert loss.item() == 2e4
    assert gradient.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_softmax_is_scikit_learn_s_logistic_regression(penalty):
    fit = linear_classifier(X, CLASSES, num_classes=4, penalty=penalty, tolerance=1e-14)
    peer = LogisticRegression(C=1 / (penalty * 300), tol=1e-10, max_iter=10_000).fit(X, CLASSES)
    agree(fit.map.weight, peer.coef_.T, digits=4)
    # Bias is free up to a constant for all classes.
    agree(fit.map.bias - fit.map.bias.mean(), peer.intercept_ - peer.intercept_.mean(), digits=4)
    agree(fit.map(X).softmax(1), peer.predict_proba(X), digits=4)
    assert np.array_equal(fit.map.predict(X), peer.predict(X))


@pytest.mark.parametrize("loss", ["softmax", "squared-svm"])
def test_the_gradient_is_zero_at_the_solution_by_autograd(loss):
    fit = linear_classifier(
        X, CLASSES, num_classes=4, loss=loss, penalty=0.01, tolerance=1e-14, max_iterations=999
    )
    weight, bias = fit.map.weight.clone().requires_grad_(), fit.map.bias.clone().requires_grad_()
    scores = X @ weight + bias
    signs = 2.0 * F.one_hot(CLASSES, 4) - 1
    data = {
        "softmax": F.cross_entropy(scores, CLASSES),
        "squared-svm": F.relu(1 - signs * scores).square().sum(1).mean(),
    }[loss]
    total = data + 0.005 * weight.square().sum()
    assert fit.converged
    agree(fit.objective, total.item(), digits=9)
    assert all(g.abs().max() < 1e-5 for g in torch.autograd.grad(total, (weight, bias)))


def test_two_class_svm_is_linear_svc_s():
    # Of two classes W = (−w/2, w/2): ‖W‖² = ‖w‖²/2, and the hinge is that of w·x + b.
    y = CLASSES % 2
    fit = linear_classifier(X, y, num_classes=2, loss="svm", penalty=0.02, tolerance=1e-10)
    # LinearSVC penalises its bias; scaled up a thousandfold it hardly does.
    peer = LinearSVC(
        C=2 / (0.02 * 300), loss="hinge", tol=1e-7, max_iter=10**6, intercept_scaling=30
    ).fit(X, y)
    w, b = fit.map.weight[:, 1] - fit.map.weight[:, 0], fit.map.bias[1] - fit.map.bias[0]
    hinge = np.maximum(0, 1 - (2 * y.numpy() - 1) * peer.decision_function(X)).mean()
    theirs = hinge + 0.02 / 4 * np.square(peer.coef_).sum()
    ours = F.relu(1 - (2 * y - 1) * (X @ w + b)).mean() + 0.02 / 4 * w.square().sum()
    agree(fit.objective, ours)
    assert ours <= theirs * 1.002


def test_svm_reaches_the_minimum_that_a_linear_program_finds():
    # With a penalty of almost nothing the multiclass hinge is a linear program.
    x, y = X[:40, :3], CLASSES[:40] % 3
    pairs = [(i, j) for i in range(40) for j in range(3) if j != y[i]]
    rows = np.zeros((len(pairs), 12 + len(pairs)))
    for row, (i, j) in enumerate(pairs):
        one = np.append(x[i].numpy(), 1.0)
        rows[row, 4 * j : 4 * j + 4] += one
        rows[row, 4 * y[i] : 4 * y[i] + 4] -= one
        rows[row, 12 + row] = -1
    cost = np.append(np.zeros(12), np.ones(len(pairs)) / 40)
    bounds = [(None, None)] * 12 + [(0, None)] * len(pairs)
    best = linprog(cost, rows, -np.ones(len(pairs)), bounds=bounds).fun
    fit = linear_classifier(x, y, num_classes=3, loss="svm", penalty=1e-6, tolerance=1e-9)
    hinge = svm_of_the_notes(fit.map(x), y, 1.0) / 40
    assert best <= hinge <= best * 1.01


def test_badly_scaled_features_cost_no_more_passes():
    scales = 10.0 ** torch.linspace(-4, 4, 6).double()
    plain = linear_classifier(X, CLASSES, num_classes=4, penalty=0.0)
    scaled = linear_classifier(X * scales, CLASSES, num_classes=4, penalty=0.0)
    agree(scaled.objective, plain.objective, digits=4)
    assert plain.iterations < 40
    assert scaled.iterations < 3 * plain.iterations


def test_features_far_from_zero_in_float32_lose_little():
    near = linear_classifier(X.float(), CLASSES, num_classes=4, penalty=0.01)
    far = linear_classifier(X.float() + 100, CLASSES, num_classes=4, penalty=0.01)
    agree(far.objective, near.objective, digits=3)
    agree(far.map.weight, near.map.weight, digits=2)


def test_more_features_than_samples_and_a_start_near_the_end():
    x = normal(30, 200, seed=6)
    y = CLASSES[:30]
    fit = linear_classifier(x, y, num_classes=4, penalty=1e-3)
    assert (fit.map.predict(x) == y).all()
    again = linear_classifier(x, y, num_classes=4, penalty=1e-3, start=fit.map)
    assert again.iterations <= 3
    agree(again.objective, fit.objective, digits=3)


def test_bytes_and_a_constant_feature_are_taken_as_they_are():
    x = torch.cat(((20 * X + 128).clamp(0, 255).byte(), torch.full((300, 1), 9).byte()), dim=1)
    fit = linear_classifier(x, CLASSES, num_classes=4)
    peer = linear_classifier(x.float(), CLASSES, num_classes=4)
    agree(fit.map.weight, peer.map.weight, digits=5)
    assert fit.map.weight[-1].abs().max() < 1e-3


TOY = torch.rand(400, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
CANNOT = {
    "opposite quadrants": (TOY[:, 0] * TOY[:, 1] > 0, TOY.prod(1, keepdim=True)),
    "ring": (TOY.norm(dim=1) > 0.75, TOY.norm(dim=1, keepdim=True)),
    "three modes": ((TOY[:, 0] * 4.7).cos() > 0, (TOY[:, :1] * 4.7).cos()),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_a_line_cannot_do_a_feature_can(name):
    truth, feature = CANNOT[name]
    y = truth.long()
    line = linear_classifier(TOY, y, num_classes=2)
    bent = linear_classifier(feature, y, num_classes=2)
    assert (line.map.predict(TOY) == y).double().mean() < 0.8
    assert (bent.map.predict(feature) == y).double().mean() > 0.97


def test_the_regulariser_prefers_the_spread_solution_of_equal_loss():
    # The notes' example: x = (1, 1, 1, 1); w = (1, 0, 0, 0) and (¼, ¼, ¼, ¼) give equal scores.
    x = torch.ones(8, 4) * (torch.arange(8) % 2 * 2 - 1)[:, None]
    fit = linear_classifier(x, torch.arange(8) % 2, num_classes=2, penalty=0.1)
    agree(fit.map.weight, fit.map.weight[:1].expand(4, 2))


def test_templates_look_like_what_tells_the_classes_apart():
    y = torch.arange(600) % 2
    drawn = torch.zeros(2, 3, 4, 5)
    drawn[0, 0, 1], drawn[1, 2, :, 3] = 1, 1
    images = drawn[y] + normal(600, 3, 4, 5)
    fit = linear_classifier(images.flatten(1), y, num_classes=2, penalty=0.1)
    templates = fit.map.templates((3, 4, 5))
    assert (templates.amin((1, 2, 3)).tolist(), templates.amax((1, 2, 3)).tolist()) == (
        [0, 0],
        [1, 1],
    )
    apart = (drawn[1] - drawn[0]).flatten()
    assert torch.corrcoef(torch.stack((templates[1].flatten(), apart)))[0, 1] > 0.9
    # A score is how well the template matches.
    scores = images.flatten(1) @ fit.map.weight + fit.map.bias
    agree(fit.map(images.flatten(1)), scores)
    with pytest.raises(UsageError, match="60 features"):
        fit.map.templates((3, 4, 4))


def test_minimise_solves_a_quadratic_and_says_when_it_ran_out():
    a = normal(8, 8, seed=7, dtype=torch.float64)
    curvature, target = a @ a.T + torch.eye(8), normal(8, 1, seed=8, dtype=torch.float64)

    def bowl(point):
        off = point - target
        return (off * (curvature @ off)).sum().item() / 2 + 1, curvature @ off

    ask: dict[str, Any] = {"precondition": lambda g: g, "tolerance": 1e-15}
    found = minimise(bowl, torch.zeros_like(target), max_iterations=200, **ask)
    assert found.converged
    agree(found.point, target, digits=6)
    assert not minimise(bowl, torch.zeros_like(target), max_iterations=2, **ask).converged
    with pytest.raises(TrainingError, match="before the first step"):
        minimise(lambda p: (math.nan, p), target, max_iterations=2, **ask)


ERRORS = [
    ({"penalty": -1e-3}, UsageError, "penalty must be a finite number ≥ 0"),
    ({"loss": "hinge"}, UnknownNameError, "no loss is called 'hinge'"),
    ({"targets": torch.zeros(30, dtype=torch.int64)}, DataError, "at least two classes"),
    ({"targets": torch.arange(30)}, DataError, r"must lie in 0…3(.|\n)*num_classes=30"),
    ({"targets": torch.arange(30) - 1}, DataError, "number the classes from 0"),
    ({"targets": torch.arange(29)}, DataError, "one int64 class index per row"),
    ({"targets": torch.rand(30)}, DataError, "one int64 class index per row"),
    ({"inputs": torch.zeros(0, 2)}, DataError, "at least one row"),
    ({"inputs": torch.full((30, 2), math.nan)}, DataError, "nan in row 0, column 0"),
    ({"max_iterations": 0}, UsageError, "max_iterations"),
]


@pytest.mark.parametrize(("change", "kind", "message"), ERRORS, ids=lambda p: str(p)[:20])
def test_what_cannot_be_fitted_is_said(change, kind, message):
    asked = {"inputs": normal(30, 2), "targets": CLASSES[:30], "num_classes": 4} | change
    with pytest.raises(kind, match=message):
        as_users_run_it(linear_classifier)(**asked)


def test_a_map_refuses_features_it_was_not_fitted_on():
    fit = linear_classifier(X, CLASSES, num_classes=4)
    with pytest.raises(DataError, match="5 columns against 6"):
        fit.map(X[:, :5])
