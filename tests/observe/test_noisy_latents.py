"""Latents of a variational autoencoder, read off the graph of the loss."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.observe.noisy_latents import penalises_noisy_latents
from thalweg.record import History
from thalweg.record.quantities import DEAD_UNITS, LOSS, OUTPUT_SPREAD


def two_heads(h):
    mean, log_variance = h[:, :3], h[:, 3:]
    return mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance), gauss(mean, log_variance)


def chunked_in_place(h):
    mean, log_variance = h.chunk(2, 1)
    noise = torch.randn_like(mean)
    return noise.mul(log_variance.mul(0.5).exp_()).add_(mean), gauss(mean, log_variance)


def softplus(h):
    mean, deviation = h[:, :3], F.softplus(h[:, 3:]) + 1e-6
    return mean + deviation * torch.randn_like(mean), gauss(mean, 2 * deviation.log())


def distribution(h):
    posterior = Normal(h[:, :3], torch.exp(0.5 * h[:, 3:]))
    return posterior.rsample(), kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean()


def gauss(mean, log_variance):
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()


def plain(h):
    return h[:, :3], h.square().mean()


def denoising(h):
    return h[:, :3] + 0.3 * torch.randn(len(h), 3), h[:, :3].square().mean()


def unpenalised(h):
    return h[:, :3] + torch.randn(len(h), 3) * h[:, 3:].exp(), 0.0


def quantised(h):
    codes, mean = torch.randn(5, 3), h[:, :3]
    nearest = codes[torch.cdist(mean, codes).argmin(1)]
    return mean + (nearest - mean).detach(), F.mse_loss(mean, nearest)


def gated(h):
    return h[:, :3] * h[:, 3:].sigmoid() + h[:, 3:], h[:, 3:].square().mean()


@pytest.mark.parametrize("latents", [two_heads, chunked_in_place, softplus, distribution])
def test_noise_on_a_penalised_mean_is_a_variational_autoencoder(latents):
    assert read(latents)


@pytest.mark.parametrize("latents", [plain, denoising, unpenalised, quantised, gated])
def test_other_bottlenecks_are_none(latents):
    assert not read(latents)


def read(latents):
    inputs = torch.randn(8, 5)
    latent, penalty = latents(nn.Linear(5, 6)(inputs))
    output = nn.Linear(3, 5)(latent)
    loss = F.mse_loss(output, inputs) + penalty
    loss.backward()
    return penalises_noisy_latents(loss, output.grad_fn)


COLLAPSED = {"": {0: 0.3, 400: 0.1}, "inputs": {0: 0.5, 400: 0.5}}


@pytest.mark.parametrize(
    ("latents", "steps", "dead", "expected"),
    [
        (0.001, 450, 0.7, True),
        (0.001, 450, 1.0, False),  # another cause
        (0.001, 250, 0.7, False),  # too early to tell
        (0.1, 450, 0.7, False),  # a blurred one
        (0.37, 450, 0.0, False),
    ],
)
def test_outputs_that_the_latents_do_not_move_are_the_headline(latents, steps, dead, expected):
    run = History()
    for place, series in {**COLLAPSED, "latents": {0: 0.05, 400: latents}}.items():
        for step, share in series.items():
            run.add(OUTPUT_SPREAD, step, {place: share})
    for step in range(steps):
        run.add(LOSS, step, {"": 30 + 10 * 0.9**step + 0.2 * (step % 7)})
    run.add(DEAD_UNITS, steps, {"encoder": dead})
    headline = diagnose(run).headline
    assert (headline is not None and headline.rule == "posterior-collapse") == expected


def test_the_spread_by_way_of_the_latents_leaves_out_the_noise():
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    watcher = watch(model, optimizer)
    with torch.no_grad():
        model.encode.weight.mul_(1e-3)
    inputs = torch.randn(32, 12)
    output, penalty = model(inputs)
    loss = F.mse_loss(output, inputs) + penalty
    loss.backward()
    optimizer.step()
    watcher.step(loss)
    watcher.flush()
    spreads = {
        place: list(s.values()) for place, s in watcher.history.by_place(OUTPUT_SPREAD).items()
    }
    assert spreads["latents"][0] < 0.01 < 0.1 < spreads[""][0]


def test_a_leap_of_the_loss_is_no_collapse():
    run = History()
    for place, share in {"": 0.1, "inputs": 0.5, "latents": 0.0}.items():
        run.add(OUTPUT_SPREAD, 400, {place: share})
    for step in range(450):
        run.add(LOSS, step, {"": 30.0 if step == 0 else 9e5})
    assert "posterior-collapse" in diagnose(run).passed


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(12, 6), nn.Linear(3, 12)

    def forward(self, inputs):
        latent, penalty = two_heads(self.encode(inputs))
        return self.decode(latent), penalty
