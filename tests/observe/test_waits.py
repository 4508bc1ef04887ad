"""The device is waited for when measurements are fetched, and never in an ordinary step.

On a GPU each number that Python asks of a tensor stops it until the device has caught up. A CPU
answers the same questions through the same operators, so that they can be counted there.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg.observe import watch
from thalweg.observe.reading_schedule import next_reading
from thalweg.record.quantities import LOSS

ASKING = {  # operators whose result, or its shape, Python has to know before it can go on
    "_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal",
    "bincount",
}  # fmt: skip
MOST = 8  # waits in a reading at which everything is measured


class Asked(TorchDispatchMode):
    """Counts the questions put to tensors."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        mask = name == "index" and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        self.count += name in ASKING or mask
        return func(*args, **(kwargs or {}))


def asked_by_step(steps, *, frozen=False, **told):
    """How often each step of a watched run waits: in the model, the optimizer and the watcher."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
    )
    if frozen:
        model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watcher = watch(model, optimizer, **told)
    inputs = torch.randn(32, 3, 8, 8)
    targets = inputs[:, :, 0, 0].argmax(1) + 1
    counts = []
    for _ in range(steps):
        with Asked() as asked:
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        counts.append(asked.count)
    return counts, watcher


def readings(steps):
    found, step = set(), 0
    while step < steps:
        found.add(step)
        step = next_reading(step, 20)
    return found


def test_ordinary_steps_never_wait_and_readings_seldom():
    counts, watcher = asked_by_step(150, loss_fn=F.cross_entropy)
    waited = {step for step, count in enumerate(counts) if count}
    assert waited <= readings(150)
    assert max(counts) <= MOST
    assert len(watcher.history.series(LOSS)) == 150


def test_a_frozen_part_is_not_asked_about_at_each_reading():
    frozen, _ = asked_by_step(60, frozen=True)
    assert frozen[1:] == asked_by_step(60)[0][1:]


def test_a_question_is_counted():
    with Asked() as asked:
        torch.ones(()).item()
        torch.ones(3)[torch.ones(3, dtype=torch.bool)]
    assert asked.count >= 2
