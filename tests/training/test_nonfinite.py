import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data import Batch
from thalweg.models import MODELS
from thalweg.training import first_nonfinite
from thalweg.training.nonfinite import nonfinite_weight


class Logarithm(nn.Module):
    def forward(self, inputs):
        return inputs.log()


def network():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 6), Logarithm(), nn.ReLU())
    return nn.Sequential(nn.BatchNorm1d(6), inner, nn.Dropout(0.5), nn.Linear(6, 3))


def batch(value=None):
    inputs = torch.randn(5, 6)
    if value is not None:
        inputs[2, 3] = value
    return Batch(inputs, torch.zeros(5).long())


def test_the_innermost_module_that_ran_first_is_named():
    assert first_nonfinite(network(), batch(), F.cross_entropy) == "output of 1.1"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_inputs_are_named_before_what_they_spoil(value):
    assert first_nonfinite(network(), batch(value), F.cross_entropy) == "inputs"


def test_bad_targets_are_named():
    bad = Batch(torch.randn(3, 6), torch.tensor([1.0, float("nan"), 2.0]))
    assert first_nonfinite(nn.Linear(6, 1), bad, lambda out, y: (out[:, 0] - y).mean()) == "targets"


@pytest.mark.parametrize("name", ["1.0.bias", "3.weight"])
def test_a_bad_weight_is_named(name):
    model = network()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[1] = float("nan")
    assert first_nonfinite(model, batch(), F.cross_entropy) == f"weight {name}"
    assert nonfinite_weight(model) == name


def test_a_bad_running_statistic_is_named():
    model = network()
    model[0].running_var[1] = float("inf")
    assert first_nonfinite(model, batch(), F.cross_entropy) == "weight 0.running_var"


def test_a_loss_that_overflows_by_itself_is_named():
    model = nn.Linear(6, 3)
    assert first_nonfinite(model, batch(), lambda *_: torch.tensor(float("inf"))) == "loss"


def test_a_model_whose_own_forward_is_at_fault():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 3)

        def forward(self, inputs):
            return self.inner(inputs) / 0

    assert first_nonfinite(Root(), batch(), F.cross_entropy) == "output of the model"


def test_nothing_is_named_where_all_is_well():
    model = MODELS["convnet"](3, input_shape=(1, 8, 8), width=4)
    well = Batch(torch.randn(4, 1, 8, 8), torch.arange(4) % 3)
    assert first_nonfinite(model, well, F.cross_entropy) == ""
    assert nonfinite_weight(model) == ""


def test_the_search_leaves_no_trace():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    first_nonfinite(model, batch(), F.cross_entropy)
    assert model.training
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
    torch.set_rng_state(random)


def test_only_bfloat16_overflows():
    """65504 is float16's end, not bfloat16's: what fails in one precision is looked for in it."""
    model = nn.Linear(6, 3)
    found = first_nonfinite(model, batch(1e30), F.cross_entropy, dtype=torch.bfloat16)
    assert found == ""
