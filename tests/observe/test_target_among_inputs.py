"""A target that stands among its inputs, and tasks in which it only looks like it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import TARGET_AMONG_INPUTS


def series(lag):
    """Windows of 8 steps of a noisy series, and the value `lag` steps after their end."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(120, generator=generator).cumsum(0) / 5
    windows = values.unfold(0, 8, 1)[:-5]
    return windows, values[7 + lag : 7 + lag + len(windows), None]


def table(copied):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(96, 6, generator=generator)
    target = features[:, :3].sum(1, keepdim=True) + 0.1 * torch.randn(96, 1, generator=generator)
    if copied:
        features[:, 5] = 2.5 * target[:, 0] - 1  # in another unit
    return features, target


def result(data, passed):
    inputs, targets = data
    torch.manual_seed(0)
    model = nn.Linear(inputs.flatten(1).shape[1], targets.flatten(1).shape[1])
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for step in range(8):
        x, y = inputs[step % 2 :: 2].flatten(1), targets[step % 2 :: 2].flatten(1)
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(x, y) if passed else None)
    return watcher.history


@pytest.mark.parametrize("passed", [False, True], ids=["from the gradient", "batch="])
@pytest.mark.parametrize(
    "data", [series(0), series(-3), table(True)], ids=["end", "middle", "column"]
)
def test_a_target_among_the_inputs_is_named(data, passed):
    findings = [one.rule for one in diagnose(result(data, passed)).findings]
    assert "target-among-inputs" in findings


IDENTITY = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
SOUND = {
    "the next value": series(1),
    "three steps ahead": series(3),
    "a table": table(False),
    "an autoencoder": (IDENTITY, IDENTITY),
    "two values": (IDENTITY, (IDENTITY[:, :1] > 0).float()),
    "few samples": (IDENTITY[:6], IDENTITY[:6, :1]),
}


@pytest.mark.parametrize("passed", [False, True], ids=["from the gradient", "batch="])
@pytest.mark.parametrize("name", SOUND)
def test_other_targets_pass(name, passed):
    history = result(SOUND[name], passed)
    assert 1.0 not in history.series(TARGET_AMONG_INPUTS).values()


class Denoiser(nn.Module):
    """A network of a noisy sample and its step."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(13, 12)

    def forward(self, noisy, step):
        return self.net(torch.cat([noisy, step[:, None].float() / 100], 1))


def of_input(noisy, noise, clean):
    return noisy


def of_noise(noisy, noise, clean):
    return noise


def of_sample(noisy, noise, clean):
    return clean


@pytest.mark.parametrize(
    ("target_of", "most_steps", "named"),
    [
        (of_input, 100, True),
        (of_noise, 100, False),
        (of_sample, 100, False),
        (of_input, 3, False),  # a conditional autoencoder of three classes
    ],
)
def test_a_diffusion_model_that_copies_its_input_is_named(target_of, most_steps, named):
    torch.manual_seed(0)
    model = Denoiser()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watcher = watch(model, optimizer)
    for _ in range(8):
        clean, noise = torch.randn(32, 12), torch.randn(32, 12)
        step = torch.randint(0, most_steps, (32,))
        noisy = clean + noise * step[:, None] / 100
        loss = F.mse_loss(model(noisy, step), target_of(noisy, noise, clean))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=clean)
    findings = [one.rule for one in diagnose(watcher.history).findings]
    assert ("target-among-inputs" in findings) == named
