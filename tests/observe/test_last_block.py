"""What only the last block hands on is a note; a block that is forgotten is an error."""

import pytest
import torch
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.backcast, self.forecast = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        hidden = self.body(x).relu()
        return x - self.backcast(hidden), self.forecast(hidden)


class Stack(nn.Module):
    """Residual blocks as in N-BEATS; `forgotten` blocks run, but their forecast is not added."""

    def __init__(self, blocks=3, forgotten=()):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.forgotten = forgotten

    def forward(self, x):
        total = torch.zeros(len(x), 1)
        for index, block in enumerate(self.blocks):
            rest, forecast = block(x)
            total = total + (forecast.detach() if index in self.forgotten else forecast)
            x = rest
        return total


class Cut(Stack):
    """The first block's rest is cut off the graph."""

    def forward(self, x):
        rest, total = self.blocks[0](x)
        for block in self.blocks[1:]:
            rest, forecast = block(rest.detach())
            total = total + forecast
        return total


def finding(model):
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    targets = inputs[:, :1] * 2
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    watcher = watch(model, optimizer)
    for _ in range(40):
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    findings = diagnose(watcher.history).findings
    return next((f for f in findings if f.rule == "gradient-never-arrives"), None)


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_the_last_rest_is_used_by_nobody(blocks):
    note = finding(Stack(blocks))
    assert note is not None
    assert note.severity == "note"
    assert f"blocks.{blocks - 1}.backcast" in note.summary


@pytest.mark.parametrize("model", [Stack(3, forgotten=(2,)), Cut(3)], ids=["whole block", "cut"])
def test_a_block_that_is_forgotten_is_an_error(model):
    error = finding(model)
    assert error is not None
    assert error.severity == "error"
