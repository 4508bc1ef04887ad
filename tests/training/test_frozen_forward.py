"""Any way that a frozen network is run gives nearly what the network gives."""

from typing import Any

import pytest
import torch
from torch import nn

from thalweg.models import MODELS
from thalweg.models.pretrained.head import Features, freeze, last_third, named_head
from thalweg.training.frozen_forward import (
    MAX_ERROR,
    FrozenForward,
    fastest_forward,
    fold_batch_norms,
)

NETS = {"resnet20": 32, "efficientnet_lite0": 64, "convnet": 32, "vit_tiny": 32}


def frozen(name):
    """A network whose batch norms have seen something, as features."""
    torch.manual_seed(0)
    side = NETS[name]
    changes = {"patch_size": 8} if name == "vit_tiny" else {}
    model = MODELS[name](5, input_shape=(3, side, side), **changes)
    images = torch.randn(8, 3, side, side)
    model.train()(images)
    return Features(model, named_head(model, outputs=5)[1]).eval(), images


@pytest.mark.parametrize("name", NETS)
def test_folding_batch_norms_changes_nothing_but_rounding(name):
    features, images = frozen(name)
    folded = fold_batch_norms(features, images)
    torch.testing.assert_close(
        FrozenForward(folded)(images), FrozenForward(features)(images), rtol=1e-3, atol=1e-4
    )
    norms = [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not norms
    if name != "vit_tiny":
        assert [m for m in features.modules() if isinstance(m, nn.BatchNorm2d)], "unchanged"


@pytest.mark.parametrize("name", NETS)
def test_the_quickest_way_is_close_to_the_network(name):
    features, images = frozen(name)
    expected = FrozenForward(features)(images)
    found = fastest_forward(features, images)(images)
    spread = (expected - expected.mean(0)).norm()
    assert (found - expected).norm() <= 1.001 * MAX_ERROR * spread


def test_a_norm_that_is_used_twice_is_not_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return (self.norm(self.first(x)) - self.norm(self.second(x))).mean((2, 3))

    torch.manual_seed(0)
    model, images = Twice().eval(), torch.randn(2, 3, 4, 4)
    model.norm.running_mean.fill_(0.3)
    assert torch.allclose(fold_batch_norms(model, images)(images), model(images), atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_features_are_what_the_head_reads(name):
    features, images = frozen(name)
    _, head = named_head(features.model, outputs=5)
    torch.testing.assert_close(head(features(images)), features.model(images))


def test_what_is_frozen_stays_in_evaluation_mode():
    model: Any = MODELS["resnet20"](5, input_shape=(3, 32, 32))
    trained = last_third(model)
    freeze(model, trained)
    before = model.bn1.running_mean.clone()
    model.train()(torch.randn(4, 3, 32, 32)).sum().backward()
    assert torch.equal(model.bn1.running_mean, before)
    assert not model.bn1.training
    assert model.layer3[2].bn2.training
    held = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert held == trained


def test_ways_that_are_timed_alike_are_chosen_alike(monkeypatch):
    """Of three timings the median counts, so one slow moment changes nothing."""
    from thalweg.training import frozen_forward

    features, images = frozen("resnet20")
    for disturbed in range(6):
        times = [[4.0, 1.0, 2.0], [4.0, 1.0, 2.0], [4.0, 1.0, 2.0]]
        times[disturbed // 3][disturbed % 3] *= 100
        timings = iter([second for turn in times for second in turn])
        monkeypatch.setattr(frozen_forward, "_seconds", lambda *_, t=timings: next(t))
        assert fastest_forward(features, images).way == "folded batch norms"
