"""Linear layers without an activation: a fault, unless they factorise a matrix."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch


def linear(*dims: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(*pair, bias=False) for pair in pairwise(dims)))


class Turned(nn.Module):
    """Its layers are declared in another order than they are called in."""

    def __init__(self):
        super().__init__()
        self.outer, self.inner = nn.Linear(2, 12), nn.Linear(12, 2)

    def forward(self, inputs):
        return self.outer(self.inner(inputs))


FACTORED = {"word vectors": linear(12, 2, 12), "turned": Turned(), "one layer": linear(12, 12)}
FAULTY = {
    "wide": linear(12, 32, 12),
    "towards few outputs": linear(12, 8, 4),
    "more than two": linear(12, 8, 2, 12),
}


def findings(model):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, diagnose=diagnose) as watcher:
        for _ in range(12):
            inputs = torch.randn(32, 12)
            outputs = model(inputs)
            loss = F.mse_loss(outputs, inputs[:, : outputs.shape[1]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        return {finding.rule for finding in watcher.diagnose().findings}


@pytest.mark.parametrize("model", FACTORED.values(), ids=FACTORED)
def test_a_factorised_matrix_is_no_missing_activation(model):
    assert "no-nonlinearity" not in findings(model)


@pytest.mark.parametrize("model", FAULTY.values(), ids=FAULTY)
def test_layers_that_act_as_one_lack_an_activation(model):
    assert "no-nonlinearity" in findings(model)
