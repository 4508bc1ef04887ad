"""The head that transfer fits is as good as scikit-learn's at its best penalty."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss

from thalweg.classical.linear_head import choose_classifier, choose_regressor


@pytest.fixture(scope="module")
def digits():
    """200 to fit, 400 to choose by, and the other 1,197."""
    data = load_digits()
    x, y = torch.from_numpy(data.data).float(), torch.from_numpy(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return [(x[rows], y[rows]) for rows in order.split([200, 400, 1197])]


def test_a_classifier_of_low_loss_is_chosen_among_both_kinds(digits):
    train, val, rest = digits
    found = choose_classifier(train, val, num_classes=10)
    assert {head.kind for head in found} == {"softmax", "ridge"}
    best, losses = found[0], [head.val_loss for head in found]
    difference = best.losses - found[int(np.argmin(losses))].losses
    assert difference.mean() <= difference.std(correction=0) / 20 + 1e-12  # √400 = 20
    assert best.accuracy == (best.map.predict(val[0]) == val[1]).double().mean().item()
    peers = [LogisticRegression(C=c, max_iter=2000).fit(*train) for c in (1e-4, 1e-3, 1e-2, 0.1)]
    scores = [log_loss(val[1], peer.predict_proba(val[0])) for peer in peers]
    assert min(losses) <= 1.05 * min(scores)
    peer = peers[int(np.argmin(scores))]
    ours = (best.map.predict(rest[0]) == rest[1]).double().mean().item()
    assert ours >= peer.score(*rest) - 0.01


def test_the_scale_and_place_of_the_features_do_not_matter(digits):
    train, val, _ = digits
    plain = choose_classifier(train, val, num_classes=10)[0]
    moved = choose_classifier(
        (1000 * train[0] - 7, train[1]), (1000 * val[0] - 7, val[1]), num_classes=10
    )[0]
    assert (moved.kind, moved.penalty) == (plain.kind, plain.penalty)
    torch.testing.assert_close(
        moved.map(1000 * val[0] - 7), plain.map(val[0]), rtol=2e-2, atol=2e-2
    )


def test_a_regressor_is_as_good_as_ridge_by_cross_validation():
    data = load_diabetes()
    x = torch.from_numpy(data.data).float()
    y = torch.from_numpy((data.target - 152) / 77).float()[:, None]
    best = choose_regressor((x[:300], y[:300]), (x[300:], y[300:]))[0]
    peer = RidgeCV(np.logspace(-4, 2, 30)).fit(x[:300], y[:300, 0])
    error = np.mean((peer.predict(x[300:]) - y[300:, 0].numpy()) ** 2)
    assert best.val_loss <= 1.02 * error
