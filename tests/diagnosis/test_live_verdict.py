"""One line, once, when an error stands."""

from functools import partial

import pytest
import torch
from torch import nn

import thalweg
from thalweg.diagnosis import live_verdict
from thalweg.diagnosis.live_verdict import LiveVerdict
from thalweg.record import History
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS

FOREVER = float("inf")  # the share of the time that checks may take here


def history_of(losses):
    history = History()
    for step, loss in enumerate(losses):
        history.add(LOSS, step, {"": loss})
    return history


FAILED = history_of([2.3, 4.0, float("nan"), float("nan")])
SOUND = history_of([2.3 * 0.99**step for step in range(100)])


def lines_of(histories, **options):
    lines = []
    live = LiveVerdict(lines.append, **({"share": FOREVER} | options))
    for history in histories:
        live.check(partial(lambda history: history, history))
    return lines


def test_an_error_that_stands_is_passed_on_once():
    (line,) = lines_of([FAILED] * 5, name="Net")
    assert line.startswith("thalweg: Net, step 3: loss-not-finite: ")
    assert "\n" not in line


@pytest.mark.parametrize(
    "histories",
    [[FAILED], [FAILED, SOUND, FAILED, SOUND], [SOUND] * 5, [History()] * 5],
    ids=["one check", "it does not stand", "sound", "nothing measured"],
)
def test_nothing_is_passed_on_else(histories):
    assert lines_of(histories) == []


def test_a_broken_measurement_is_no_evidence():
    history = history_of([2.3, 4.0, float("nan"), float("nan")])
    history.add(INSTRUMENT_FAILED, 0, {"loss: RuntimeError: out of order": 1.0})
    assert lines_of([history] * 5) == []


def test_checks_that_cost_too_much_wait():
    live, fetched = LiveVerdict(print, share=0.0), []

    def history():
        fetched.append(SOUND)
        return SOUND

    for _ in range(1000):
        live.check(history)
    assert 1 <= len(fetched) < 1000


def test_watch_writes_it_to_stderr(capsys, monkeypatch):
    monkeypatch.setattr(live_verdict, "FREE", FOREVER)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=300.0)
    watcher = thalweg.watch(model, optimizer, live=True)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(32, 8)), torch.randint(0, 3, (32,)))
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "learning-rate-too-high" in line
    assert "lower the learning rate" in line
