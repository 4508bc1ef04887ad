"""What is restored, and whether it is what the model has anyway."""

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis.rules.restored_weights_not_copied import restored_weights_not_copied
from thalweg.observe import restored_weights, watch
from thalweg.record.quantities import INSTRUMENT_FAILED, RESTORED_ITSELF


def train(keep, *, model=None, after=None):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watcher = watch(model, optimizer)
    best = None
    for step in range(6):
        loss = F.cross_entropy(model(torch.randn(8, 4)), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
        if step == 2:
            best = keep(model)
    if best is not None:
        (after or model).load_state_dict(best)
    watcher.close()
    assert INSTRUMENT_FAILED not in watcher.history
    return watcher.history


@pytest.mark.parametrize(
    "keep",
    [lambda m: m.state_dict(), lambda m: dict(m.state_dict()), lambda m: m.state_dict().copy()],
)
def test_a_reference_to_the_weights_is_named(keep):
    assert restored_weights_not_copied(train(keep)).severity == "warning"


@pytest.mark.parametrize(
    "keep",
    [
        lambda m: copy.deepcopy(m.state_dict()),
        lambda m: {name: tensor.clone() for name, tensor in m.state_dict().items()},
        lambda m: copy.deepcopy(m).state_dict(),
        lambda m: None,
    ],
)
def test_copies_pass(keep):
    assert restored_weights_not_copied(train(keep)) is None


def test_another_model_may_load_a_reference():
    other = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    assert RESTORED_ITSELF not in train(lambda m: m.state_dict(), after=other)


def test_a_module_around_the_model_may_load():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    around = nn.ModuleDict({"net": model})
    history = train(lambda _: around.state_dict(), model=model, after=around)
    assert restored_weights_not_copied(history) is not None


def test_nothing_is_put_on_the_model_and_the_wrapper_goes_with_the_last_watcher(monkeypatch):
    plain = inspect.unwrap(nn.Module.load_state_dict)  # others may be watched in this process
    monkeypatch.setattr(nn.Module, "load_state_dict", plain)
    monkeypatch.setattr(restored_weights, "_LOADS", restored_weights._Loads())
    models = [nn.Linear(4, 3), nn.Linear(4, 3)]
    watchers = [watch(one, torch.optim.SGD(one.parameters(), 0.1)) for one in models]
    assert nn.Module.load_state_dict is not plain
    assert not models[0]._load_state_dict_pre_hooks
    for watcher in watchers:
        watcher.close()
    assert nn.Module.load_state_dict is plain
