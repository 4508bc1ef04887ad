"""The loss and the scores of a forecast, against closed forms and scikit-learn."""

from math import isnan, nan

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from thalweg.errors import UsageError
from thalweg.tasks.forecast import QUANTILES, forecast

TASK = forecast(3)


def pairs(windows=50, *, location=10.0, scale=2.0, seed=0):
    """Outputs in order, and targets with their location and scale."""
    rng = np.random.default_rng(seed)
    outputs = np.sort(rng.normal(size=(windows, 3, len(QUANTILES))), axis=2)
    targets = np.concatenate(
        (
            rng.normal(size=(windows, 3)),
            np.full((windows, 1), location),
            np.full((windows, 1), scale),
        ),
        axis=1,
    )
    return torch.tensor(outputs.reshape(windows, -1)).float(), torch.tensor(targets).float()


def test_the_loss_is_twice_the_mean_pinball_loss_of_scikit_learn():
    outputs, targets = pairs()
    columns = outputs.unflatten(1, (3, -1)).flatten(0, 1).T
    truth = targets[:, :3].flatten()
    losses = [
        mean_pinball_loss(truth, column, alpha=level)
        for column, level in zip(columns, QUANTILES, strict=True)
    ]
    assert TASK.loss_fn(outputs, targets).item() == pytest.approx(2 * np.mean(losses), rel=1e-5)


def test_scores_are_in_the_unit_of_the_series():
    outputs, targets = pairs()
    truth = targets[:, :3].numpy() * 2.0 + 10.0
    median = outputs.unflatten(1, (3, -1))[:, :, 1].numpy() * 2.0 + 10.0
    error = np.abs(truth - median)
    scores = {name: metric(outputs, targets) for name, metric in TASK.metrics.items()}
    assert scores["mae"] == pytest.approx(error.mean(), rel=1e-5)
    assert scores["mase"] == pytest.approx(error.mean() / 2, rel=1e-5)
    assert scores["rmse"] == pytest.approx(np.sqrt(np.square(error).mean()), rel=1e-5)
    size = (np.abs(truth) + np.abs(median)) / 2
    assert scores["smape"] == pytest.approx((error / size).mean(), rel=1e-5)


def test_a_missing_value_counts_nowhere():
    outputs, targets = pairs()
    holed = targets.clone()
    holed[::2, 1] = nan
    kept = torch.ones(50, 3, dtype=torch.bool)
    kept[::2, 1] = False
    errors = (targets[:, :3] - outputs.unflatten(1, (3, -1))[:, :, 1]).abs()[kept]
    assert TASK.metrics["mase"](outputs, holed) == pytest.approx(errors.mean().item(), rel=1e-5)
    outputs.requires_grad_()
    TASK.loss_fn(outputs, holed).backward()
    assert outputs.grad.isfinite().all()
    assert (outputs.grad.unflatten(1, (3, -1))[::2, 1] == 0).all()


def test_all_missing_is_no_score():
    outputs, targets = pairs()
    targets[:, :3] = nan
    assert TASK.loss_fn(outputs, targets).item() == 0
    assert isnan(TASK.metrics["band_coverage"](outputs, targets))


def test_quantiles_of_the_truth_hold_their_share():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(4_000, 3))
    levels = np.tile([-1.2816, 0.0, 1.2816], (4_000, 3)).astype(np.float32)
    targets = torch.tensor(np.concatenate((truth, np.zeros((4_000, 1)), np.ones((4_000, 1))), 1))
    share = TASK.metrics["band_coverage"](torch.tensor(levels), targets)
    assert share == pytest.approx(0.8, abs=0.02)


def test_a_forecast_has_a_step():
    with pytest.raises(UsageError, match="at least one step"):
        forecast(0)
