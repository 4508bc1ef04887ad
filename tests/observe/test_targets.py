"""Targets are judged as the loss compares them: in whatever unit and shape it brings them to."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.observe import watch
from thalweg.record.quantities import BROADCAST_LOSS, CHANCE_LOSS, TARGET_MEAN, TARGET_STD
from thalweg.tasks import regression

MEAN, STD = 200_000.0, 90_000.0


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 6, generator=generator)
    return inputs, MEAN + STD * inputs[:, 0]


def watched(loss_fn, *, loader=True, steps=3):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, targets = data()
    pairs = list(zip(inputs.split(32), targets.split(32), strict=True))
    about: dict[str, Any] = {"train": pairs} if loader else {}
    with watch(model, optimizer, task="regression", loss_fn=loss_fn, **about) as watcher:
        for batch in pairs[:steps]:
            loss = loss_fn(model(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch)
    return watcher.history


def test_a_loss_that_standardises_and_squeezes_is_judged_in_its_own_unit():
    history = watched(regression(target_mean=MEAN, target_std=STD).loss_fn)
    _, targets = data()
    scaled = (targets - MEAN) / STD
    assert history.first(BROADCAST_LOSS) == 0
    assert history.last(TARGET_MEAN) == pytest.approx(scaled.mean().item(), abs=1e-3)
    assert history.last(TARGET_STD) == pytest.approx(scaled.std().item(), rel=1e-3)
    assert history.last(CHANCE_LOSS) == pytest.approx(scaled.var().item(), rel=2e-3)


def test_raw_targets_are_seen_raw():
    history = watched(lambda out, targets: F.mse_loss(out.squeeze(1), targets))
    assert history.last(TARGET_STD) == pytest.approx(data()[1].std().item(), rel=1e-3)
    assert history.first(BROADCAST_LOSS) == 0


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda out, targets: F.mse_loss(out, (targets - MEAN) / STD),
        lambda out, targets: (out - (targets - MEAN) / STD).square().mean(),
    ],
    ids=["mse_loss", "by hand"],
)
def test_a_real_broadcast_is_still_seen(loss_fn, loader):
    assert watched(loss_fn, loader=loader).first(BROADCAST_LOSS) == 1
