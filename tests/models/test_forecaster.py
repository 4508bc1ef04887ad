"""The network of series begins as a mean of past seasons, and its bands are in order."""

import pytest
import torch

from thalweg.errors import UsageError
from thalweg.models.forecaster import forecaster, mean_of_seasons


def test_untrained_it_repeats_the_past_season():
    torch.manual_seed(0)
    season = torch.tensor([1.0, 5.0, -2.0, -4.0])
    inputs = torch.cat((season.repeat(3), torch.zeros(1)))[None]
    model = forecaster(3 * 6, input_shape=(13,), lags=12, season=4, quantiles=3).eval()
    median = model(inputs).unflatten(1, (6, 3))[0, :, 1]
    torch.testing.assert_close(median, season.repeat(2)[:6], atol=0.3, rtol=0)


def test_the_latest_season_weighs_most_and_all_weights_are_one():
    weights = mean_of_seasons(10, 3, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert weights[0].nonzero().flatten().tolist() == [2, 6]
    assert weights[0, 6] == 2 * weights[0, 2]
    assert mean_of_seasons(5, 2, 1)[:, -1].tolist() == [1.0, 1.0]


def test_bands_are_in_order_and_as_wide_as_they_are_told():
    torch.manual_seed(0)
    inputs = torch.randn(20, 10)
    model = forecaster(3 * 4, input_shape=(10,), lags=7, quantiles=3, width=16).eval()
    low, median, high = model(inputs).unflatten(1, (4, 3)).unbind(2)
    assert (low < median).all()
    assert (median < high).all()
    model.band.fill_(2.0)
    wide = model(inputs).unflatten(1, (4, 3))
    torch.testing.assert_close(wide[:, :, 1], median)
    torch.testing.assert_close(wide[:, :, 2] - median, 2 * (high - median))


def test_it_forecasts_in_the_spread_of_the_window():
    torch.manual_seed(0)
    inputs = torch.cat((torch.randn(5, 8), torch.zeros(5, 1)), dim=1)
    model = forecaster(3 * 2, input_shape=(9,), lags=8, quantiles=3, depth=0).eval()
    model.head.weight.data.zero_()
    wider = inputs.clone()
    wider[:, -1] = 2.0
    torch.testing.assert_close(model(wider), model(inputs) * torch.tensor(2.0).exp())


def test_outputs_that_are_no_steps_are_refused():
    with pytest.raises(UsageError, match="do not fit the steps"):
        forecaster(10, input_shape=(8,), lags=8, quantiles=3)
