"""Dropout, measured: its p, and the loss of one batch with it and without it, on a graph."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import DROPOUT, EVAL_MODE_LOSS, INSTRUMENT_FAILED, TRAIN_MODE_LOSS

NODES, CLASSES = 120, 4


class GraphNet(nn.Module):
    """Two graph convolutions; called with sparse nodes and a sparse adjacency matrix."""

    def __init__(self, p):
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, CLASSES)
        self.dropout = nn.Dropout(p)

    def forward(self, nodes, adjacency):
        hidden = (adjacency @ (nodes @ self.first.weight.T + self.first.bias)).relu()
        return F.log_softmax(adjacency @ self.second(self.dropout(hidden)), 1)


def train(p, steps=60):
    torch.manual_seed(0)
    targets = torch.arange(NODES) % CLASSES
    nodes = (F.one_hot(targets, 16) + 0.1 * torch.rand(NODES, 16)).to_sparse()
    adjacency, seen = torch.eye(NODES).to_sparse(), torch.arange(NODES) < 80
    model = GraphNet(p)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        loss = F.nll_loss(model(nodes, adjacency)[seen], targets[seen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    model.eval()
    with torch.no_grad():
        return watcher.history, F.nll_loss(model(nodes, adjacency)[seen], targets[seen])


def test_the_loss_in_eval_mode_is_that_of_the_nodes_in_the_loss():
    history, expected = train(0.5, steps=10)
    assert history.last(EVAL_MODE_LOSS) == pytest.approx(float(expected), rel=1e-5)
    assert history.last(TRAIN_MODE_LOSS) > history.last(EVAL_MODE_LOSS)
    assert history.last(DROPOUT, "dropout") == 0.5
    assert INSTRUMENT_FAILED not in history  # sparse inputs break no measurement


@pytest.mark.parametrize(("p", "over"), [(0.97, True), (0.3, False)])
def test_dropout_that_leaves_too_little_is_the_cause(p, over):
    headline = diagnose(train(p)[0]).headline
    assert (headline is not None and headline.rule == "over-regularised") is over
