"""Minimum or saddle: the Hessian's spectrum of your own model at its present weights."""

import torch
from torch.nn.functional import cross_entropy

import thalweg

torch.manual_seed(0)
inputs = torch.randn(512, 10)
targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
model = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(300):
    loss = cross_entropy(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

batches = [(inputs, targets)]
spectrum = thalweg.spectrum(model, cross_entropy, batches, top=3)
print("largest eigenvalues", [f"{value:.3f}" for value in spectrum.top])
print(f"smallest eigenvalue {spectrum.most_negative:.2e}, trace {spectrum.trace.value:.2f}")
point = thalweg.critical_point(model, cross_entropy, batches)
print(f"{point.verdict}: {point.reason}")
