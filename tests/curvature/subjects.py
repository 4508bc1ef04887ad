"""Small models of every kind, and the Hessian that torch.func writes out for them."""

import copy

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

SEED = 0


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.head(self.cell(inputs)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        mixed, _ = self.attend(inputs, inputs, inputs, need_weights=False)
        return self.head(mixed.mean(1))


def mlp():
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), torch.randn(24, 5)


def convolutional():
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Softplus(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    inputs = torch.randn(24, 2, 4, 4)
    layers.train()
    with torch.no_grad():
        layers(3 * inputs + 1)  # running statistics that differ from the batch's
    return layers, inputs


def recurrent():
    return Recurrent(), torch.randn(24, 6, 3)


def attentive():
    return Attentive(), torch.randn(24, 5, 4)


def built(build, dtype=torch.float64):
    torch.manual_seed(SEED)
    model, inputs = build()
    return model.to(dtype), inputs.to(dtype), torch.randint(0, 3, (24,))


class PlainNorm(nn.Module):
    """Batch normalisation in plain operations. Under vmap the second derivative of torch's own
    kernel in train mode comes out wrong (not symmetric: seen in torch 2.13)."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.mean, self.variance = norm.running_mean, norm.running_var

    def forward(self, inputs):
        mean, variance = self.mean, self.variance
        if self.training:
            mean = inputs.mean((0, 2, 3))
            variance = (inputs - mean[:, None, None]).square().mean((0, 2, 3))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (inputs - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]


def written_out(model, batches, loss_fn=F.cross_entropy):
    """The dense Hessian of the mean loss, by torch.func in the model's dtype and mode."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            setattr(model, name, PlainNorm(module).train(module.training))
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    buffers = {name: buffer.detach() for name, buffer in model.named_buffers()}
    samples = sum(len(targets) for _, targets in batches)

    def mean_loss(flat):
        parts = flat.split([weight.numel() for weight in weights.values()])
        named = {n: p.view(weights[n].shape) for n, p in zip(weights, parts, strict=True)}
        copies = {name: buffer.clone() for name, buffer in buffers.items()}
        return (
            sum(
                loss_fn(functional_call(model, named | copies, (inputs,)), targets) * len(targets)
                for inputs, targets in batches
            )
            / samples
        )

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.func.jacrev(torch.func.jacrev(mean_loss))(
            torch.cat([weight.reshape(-1) for weight in weights.values()])
        )
