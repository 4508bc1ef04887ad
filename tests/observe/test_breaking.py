"""Whatever breaks inside, the user's run goes on, and the diagnosis says what was not checked."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg.diagnosis import diagnose
from thalweg.diagnosis.rules import RULES
from thalweg.observe import watch
from thalweg.observe.instruments import INSTRUMENTS
from thalweg.record.quantities import INSTRUMENT_FAILED


def trained(instruments=INSTRUMENTS, rules=RULES):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
    inputs = torch.randn(200, 6)
    data = TensorDataset(inputs, inputs[:, :3].argmax(1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    watcher = watch(
        model,
        optimizer,
        instruments=instruments,
        loss_fn=nn.functional.cross_entropy,
        train=DataLoader(data, 32),
        val=DataLoader(data, 32),
        num_classes=3,
        diagnose=lambda history: diagnose(history, rules),
    )
    for _ in range(8):
        for batch, targets in DataLoader(data, 32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), targets)
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        watcher.log(val_loss=loss, val_accuracy=0.5)
    found = watcher.diagnose()
    watcher.close()
    return found, [w.detach().clone() for w in model.parameters()], watcher.history


def out_of_order(*_, **__):
    raise ValueError("out of order")


@pytest.mark.parametrize(
    "index", range(len(INSTRUMENTS)), ids=lambda i: INSTRUMENTS[i].measure.__name__
)
def test_one_instrument_breaks(index):
    _, expected, _ = trained(())
    chosen = list(INSTRUMENTS)
    chosen[index] = replace(chosen[index], measure=out_of_order)
    found, weights, history = trained(tuple(chosen))
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    reasons = [reason for reason in history.by_place(INSTRUMENT_FAILED) if "out of order" in reason]
    assert {reason.partition(":")[0] for reason in reasons} == {
        quantity.name for quantity in chosen[index].quantities
    }
    needed = [r for r in RULES if set(r.needs) & set(chosen[index].quantities)]
    gaps = [found.not_checked.get(r.name, "") for r in needed]
    assert any("out of order" in gap for gap in gaps) or not needed  # some are read beside others


def test_every_rule_breaks_by_itself():
    broken = tuple(replace(one, check=out_of_order) for one in RULES)
    found, _, _ = trained(rules=broken)
    assert found.findings == found.passed == ()
    assert sum("out of order" in why for why in found.not_checked.values()) > 25


def test_every_quantity_that_is_measured_is_read_by_a_rule():
    from pathlib import Path

    import thalweg.diagnosis.rules as table

    text = "".join(p.read_text() for p in Path(table.__file__).parent.glob("*.py"))
    unread = [
        q.name
        for one in INSTRUMENTS
        for q in one.quantities
        if q.name.upper() not in text and q.name != "accuracy"
    ]
    assert not unread
