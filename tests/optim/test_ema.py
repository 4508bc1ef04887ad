"""The average of the weights: its formula, and the model with and without it."""

import pytest
import torch
from torch import nn

from thalweg.optim.ema import WeightAverage


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_the_average_is_its_formula():
    model = network()
    average = WeightAverage(model, decay=0.9)
    expected = model[0].weight.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            model[0].weight.add_(1.0)
        average.update()
        expected = 0.9 * expected + 0.1 * model[0].weight.detach()
    torch.testing.assert_close(average.average["0.weight"], expected)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_has_its_average_inside_and_its_own_state_afterwards(fails):
    model = network()
    average = WeightAverage(model, decay=0.5)
    model(torch.randn(8, 3))  # moves the norm's buffers
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    average.update()
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    memory = [weight.data_ptr() for weight in model.parameters()]
    try:
        with average.averaged_model() as averaged:
            inside = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    for name, tensor in model.state_dict().items():
        assert torch.equal(inside[name], average.average[name])
        assert torch.equal(tensor, own[name])
    assert [weight.data_ptr() for weight in model.parameters()] == memory
