import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.diagnosis.rules import RULES
from thalweg.observe import watch
from thalweg.record.quantities import ESCAPE_GAIN, SADDLE_CURVATURE, SHARPNESS, SHARPNESS_RATIO

CURVATURE_RULES = [r for r in RULES if r.name in ("edge-of-stability", "stuck-at-saddle")]


def trained(*, lr, steps, zero=False, optimizer=torch.optim.SGD, sharpness=True):
    torch.manual_seed(0)
    inputs = torch.randn(256, 20)
    targets = torch.tanh(inputs @ torch.randn(20, 3) / 3) + 0.3 * torch.randn(256, 3)
    model = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 3))
    if zero:
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
        targets = targets - targets.mean(0)  # so that zero is a critical point
    made = optimizer(model.parameters(), lr=lr)
    watcher = watch(
        model,
        made,
        loss_fn=F.mse_loss,
        train=[(inputs, targets)],
        instruments=(),
        sharpness=sharpness,
        diagnose=lambda history: diagnose(history, CURVATURE_RULES),
    )
    for _ in range(steps):
        made.zero_grad()
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        made.step()
        watcher.step(loss)
    return watcher


@pytest.mark.parametrize(("lr", "names"), [(0.8, ["edge-of-stability"]), (0.01, [])])
def test_full_batch_descent_reaches_the_edge_only_with_large_steps(lr, names):
    watcher = trained(lr=lr, steps=800)
    found = watcher.diagnose()
    ratio = watcher.history.last(SHARPNESS_RATIO)
    assert ratio == pytest.approx(watcher.history.last(SHARPNESS) * lr / 2, rel=0.03)
    assert [finding.rule for finding in found.findings] == names
    assert not found.not_checked


def test_a_net_that_starts_at_zero_stands_on_a_saddle():
    watcher = trained(lr=0.1, steps=30, zero=True)
    found = watcher.diagnose()
    assert watcher.history.last(SADDLE_CURVATURE) < 0
    assert watcher.history.last(ESCAPE_GAIN) > 0.05
    assert "stuck-at-saddle" in [finding.rule for finding in found.findings]


def test_adam_is_judged_by_its_own_threshold():
    watcher = trained(lr=1e-3, steps=100, optimizer=torch.optim.Adam)
    watcher.diagnose()
    assert 0 < watcher.history.last(SHARPNESS_RATIO) < 1.5


def test_training_comes_out_the_same_with_the_instruments():
    torch.manual_seed(0)
    plain = trained(lr=0.05, steps=60, sharpness=False)
    measured = trained(lr=0.05, steps=60)
    assert SHARPNESS in measured.history
    weights = (list(watcher.model.parameters()) for watcher in (plain, measured))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_not_measured_is_not_checked():
    found = diagnose(watch_nothing(), CURVATURE_RULES)
    assert set(found.not_checked) == {"edge-of-stability", "stuck-at-saddle"}
    assert all("sharpness=True" in why for why in found.not_checked.values())


def watch_nothing():
    model = nn.Linear(2, 1)
    return watch(model, torch.optim.SGD(model.parameters(), lr=0.1)).history
