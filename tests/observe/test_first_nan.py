"""Where the first NaN begins: backward, forward, update or a batch without targets."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.observe.nan_origin import nan_origin
from thalweg.record.quantities import INSTRUMENT_FAILED


def run(model, loss_of, steps=30, *, optimizer=torch.optim.SGD, lr=0.05):
    """Train; `loss_of(model, step)` makes the loss of a step."""
    torch.manual_seed(0)
    driver = optimizer(model.parameters(), lr=lr)
    watcher = watch(model, driver, diagnose=diagnose)
    for step in range(steps):
        loss = loss_of(model, step)
        driver.zero_grad()
        loss.backward()
        driver.step()
        watcher.step(loss)
    diagnosis = watcher.diagnose()
    failures = watcher.history.by_place(INSTRUMENT_FAILED)
    assert not [each for each in failures if each.startswith(("nan_origin", "loop", "risky"))]
    return diagnosis


def headline(diagnosis):
    return diagnosis.headline and diagnosis.headline.rule


def mlp(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, width))


def inputs(step, samples=16):
    return torch.randn(samples, 6, generator=torch.Generator().manual_seed(step))


BAD = 9  # the step with the unlucky batch


def distance_loss(model, step):
    a = inputs(step)
    b = a.clone() if step == BAD else inputs(step + 100)
    return (model(a) - model(b)).square().sum(1).sqrt().mean()


def root_of_outputs(model, step):
    outputs = model(inputs(step)).square().mean(1)
    return (outputs * (0.0 if step == BAD else 1.0)).pow(0.5).mean()


def hidden_by_where(model, step):
    gaps = model(inputs(step)).square() * (torch.arange(4) > (0 if step == BAD else -1))
    return torch.where(gaps > 0, gaps.log(), 0.0).abs().mean()


def angle(model, step):
    outputs = F.normalize(model(inputs(step)), dim=1)
    others = F.normalize(inputs(step + 1)[:, :4], dim=1)
    cosines = (outputs * others).sum(1)
    return (
        torch.where(torch.arange(16) == step - BAD, 1.0 + 0.0 * cosines, cosines * 0.5)
        .acos()
        .mean()
    )


@pytest.mark.parametrize("loss_of", [distance_loss, root_of_outputs, hidden_by_where, angle])
def test_a_gradient_that_is_nan_names_the_operation(loss_of):
    diagnosis = run(mlp(), loss_of)
    assert headline(diagnosis) == "infinite-slope"
    others = {finding.rule for finding in diagnosis.findings} - {"infinite-slope"}
    assert others <= {*diagnosis.headline.consequences, "stopped-too-early"}


class Masked(nn.Module):
    """Attention by hand over positions that a mask leaves, and a mean over them."""

    def __init__(self, *, repaired=False):
        super().__init__()
        self.embed, self.head, self.repaired = nn.Linear(6, 8), nn.Linear(8, 3), repaired

    def forward(self, x, mask):
        if self.repaired:
            mask = mask | (mask.sum(1, keepdim=True) == 0)
        hidden = self.embed(x)
        scores = (hidden @ hidden.transpose(1, 2)).masked_fill(~mask[:, None], float("-inf"))
        return self.head((scores.softmax(-1) @ hidden).mean(1))


def masked_loss(model, step):
    x = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(step))
    mask = torch.rand(8, 5, generator=torch.Generator().manual_seed(step)) < 0.7
    mask[:, 0] = True
    mask[0] = step < BAD
    return F.cross_entropy(model(x, mask), torch.arange(8) % 3)


def test_a_row_that_is_masked_entirely_is_named():
    diagnosis = run(Masked(), masked_loss)
    assert headline(diagnosis) == "nan-in-forward-pass"
    assert "softmax" in diagnosis.headline.summary


def test_the_repaired_mask_has_no_finding():
    assert headline(run(Masked(repaired=True), masked_loss)) is None


class LogInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x.log())


def test_the_origin_is_the_first_operation_alone():
    origin = nan_origin(LogInside(), (torch.randn(8, 6),), {})
    assert origin is not None
    assert origin[0] == ": log"
    assert nan_origin(mlp(), (torch.randn(8, 6),), {}) is None


def entropy(step, model):
    targets = inputs(step)[:, :4].argmax(1)
    if step % 3 == 0:
        targets[:] = -100
    return F.cross_entropy(model(inputs(step)), targets)


def test_batches_without_a_target_are_named():
    diagnosis = run(mlp(), lambda model, step: entropy(step, model))
    assert headline(diagnosis) == "no-targets-left"


def test_a_run_that_diverges_is_no_infinite_slope():
    diagnosis = run(
        mlp(1), lambda model, step: (model(inputs(step)) - 50).square().mean(), steps=200, lr=30.0
    )
    assert headline(diagnosis) == "learning-rate-too-high"


def half_precision(dtype, **settings):
    model = mlp().to(dtype)

    def loss_of(model, step):
        outputs = model(inputs(step).to(dtype)).float()
        return F.cross_entropy(outputs, inputs(step)[:, :4].argmax(1))

    return run(
        model,
        loss_of,
        optimizer=lambda w, lr: torch.optim.Adam(w, lr=1e-3, foreach=False, **settings),
    )


def test_an_eps_that_is_zero_in_half_precision_is_named():
    assert headline(half_precision(torch.float16)) == "eps-rounds-to-zero"


@pytest.mark.parametrize(
    ("dtype", "settings"), [(torch.bfloat16, {}), (torch.float16, {"eps": 1e-4})]
)
def test_a_sound_eps_has_no_finding(dtype, settings):
    diagnosis = half_precision(dtype, **settings)
    assert "eps-rounds-to-zero" in diagnosis.passed


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda model, step: (model(inputs(step)) - model(inputs(step + 1))).norm(dim=1).mean(),
        lambda model, step: (model(inputs(step)).square().sum(1) + 1e-8).sqrt().mean(),
        lambda model, step: model(inputs(step)).std(0).mean(),
        lambda model, step: F.softplus(model(inputs(step))).log().square().mean(),
    ],
)
def test_finite_runs_with_such_operations_pass(loss_of):
    diagnosis = run(mlp(), loss_of)
    for name in ("infinite-slope", "nan-in-forward-pass", "loss-not-finite"):
        assert name in diagnosis.passed


def test_nothing_after_the_first_nan_is_evidence():
    diagnosis = run(
        nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)), distance_loss, 200
    )
    assert headline(diagnosis) == "infinite-slope"
    rules = {finding.rule for finding in diagnosis.findings}
    assert not rules & {"dead-relu", "gradient-never-arrives", "underfitting", "loss-not-falling"}
