"""A loop of one's own gets the report of a run."""

import pytest
import torch
from torch import nn

import thalweg
from thalweg import observe
from thalweg.errors import UsageError
from thalweg.record.quantities import LOSS


def loop(watch, *, steps=60):
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(64, 6)
    targets = inputs[:, :3].argmax(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = watch(model, optimizer)
    for step in range(steps):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if step % 20 == 19:
            watcher.log(val_loss=loss, val_accuracy=0.5)
    return watcher


def test_the_page_holds_the_verdict_the_curves_and_the_checks(tmp_path):
    watcher = loop(thalweg.watch)
    path = watcher.report(tmp_path / "report.html")
    page = path.read_text()
    assert path == tmp_path / "report.html"
    assert "Sequential" in page
    assert "Validation" in page or "validation" in page
    assert page.count("<svg") >= 1
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_report_may_be_written_while_training(tmp_path):
    watcher = loop(thalweg.watch, steps=5)
    watcher.report(tmp_path / "early.html")
    watcher.step(torch.tensor(1.0))
    assert list(watcher.history.series(LOSS)) == list(range(6))


def test_without_a_page_to_render_it_says_so(tmp_path):
    with pytest.raises(UsageError, match="cannot report"):
        loop(observe.watch).report(tmp_path / "report.html")
