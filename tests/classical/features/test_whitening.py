"""PCA, PCA and ZCA whitening against scikit-learn and by covariance."""

import pytest
import torch
from classical.agreement import agree, as_users_run_it, normal
from sklearn.decomposition import PCA

from thalweg.classical.features import standardisation, whitening
from thalweg.errors import DataError, UnknownNameError, UsageError

X = normal(400, 6, seed=1, dtype=torch.float64) @ normal(6, 6, seed=2, dtype=torch.float64) + 5


def up_to_sign(axes):
    return axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()


@pytest.mark.parametrize("components", [6, 3])
def test_axes_and_variances_are_scikit_learn_s(components):
    ours = whitening(X, components=components)
    peer = PCA(components, whiten=True).fit(X)
    agree(ours.variances, peer.explained_variance_, digits=10)
    agree(ours.explained, peer.explained_variance_ratio_, digits=10)
    agree(ours.axes, up_to_sign(torch.from_numpy(peer.components_)), digits=8)
    agree(ours(X).abs(), abs(peer.transform(X)), digits=8)
    turned = whitening(X, kind="rotate", components=components)
    agree(turned(X).abs(), abs(PCA(components).fit_transform(X)), digits=8)


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_whitened_features_have_covariance_one(kind):
    agree(whitening(X, kind=kind)(X).T.cov(), torch.eye(6), digits=10)


def test_zca_is_the_symmetric_root_and_stays_nearest_to_the_data():
    fit = whitening(X, kind="zca")
    agree(fit.matrix, fit.matrix.T, digits=10)
    agree(fit.matrix @ fit.matrix, torch.linalg.inv(X.T.cov()), digits=8)
    turned = whitening(X, kind="pca")
    centred = X - X.mean(0)
    assert (fit(X) - centred).norm() < (turned(X) - centred).norm()


def test_rotation_decorrelates_and_keeps_every_distance():
    turned = whitening(X, kind="rotate")(X)
    covariance = turned.T.cov()
    agree(covariance, covariance.diagonal().diag(), digits=10)
    agree(torch.pdist(turned), torch.pdist(X), digits=10)


def test_standardising_is_not_whitening():
    covariance = standardisation(X)(X).T.cov()
    agree(covariance.diagonal(), torch.full((6,), 400 / 399), digits=8)
    assert (covariance - covariance.diagonal().diag()).abs().max() > 0.3


def test_directions_that_do_not_vary_are_left_out():
    flat = torch.cat((X[:, :3], X[:, :1] + X[:, 1:2], torch.ones(400, 1).double()), dim=1)
    fit = whitening(flat)
    assert fit.matrix.shape == (5, 3)
    agree(fit(flat).T.cov(), torch.eye(3), digits=8)
    assert whitening(X[:4]).matrix.shape == (6, 3)  # 4 samples span 3 directions


def test_epsilon_damps_weak_directions():
    fit = whitening(X, epsilon=0.5)
    variances = fit(X).var(0)
    agree(variances, fit.variances / (fit.variances + 0.5), digits=9)


def test_float32_is_whitened_in_float32():
    fit = whitening(X.float(), kind="zca")
    assert fit(X.float()).dtype == torch.float32
    agree(fit(X.float()).T.cov(), torch.eye(6), digits=3)


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda: whitening(X, components=7), UsageError, "components=6"),
        (lambda: whitening(X, epsilon=-1.0), UsageError, "epsilon must be a finite number"),
        (lambda: whitening(X[:1]), DataError, "do not vary"),
        (lambda: whitening(torch.full((3, 2), torch.inf)), DataError, "inf in row 0"),
        (lambda: as_users_run_it(whitening)(X, kind="zac"), UnknownNameError, "did you mean zca"),
        (lambda: whitening(X)(X[:, :5]), DataError, "5 columns against 6"),
    ],
)
def test_what_cannot_be_whitened_is_said(ask, kind, message):
    with pytest.raises(kind, match=message):
        ask()
