"""Stop a long training as soon as the diagnosis has an error: check it now and then."""

import sys

import torch
from torch.nn.functional import mse_loss

import thalweg

torch.manual_seed(0)
inputs = torch.randn(256, 8)
targets = inputs.sum(dim=1, keepdim=True)
model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e3)  # far too high

watcher = thalweg.watch(model, optimizer, loss_fn=mse_loss, task="regression")
for step in range(10_000):
    loss = mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    watcher.step(loss)
    if step in (32, 128, 512, 2048):
        finding = watcher.diagnose().headline
        if finding is not None and finding.severity == "error":
            print(f"stopped after {step + 1} steps: {finding.rule}: {finding.summary}")
            print(f"change: {finding.prescriptions[0].change}")
            sys.exit(0)
sys.exit("the training was not stopped")
