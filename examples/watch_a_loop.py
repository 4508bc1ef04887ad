"""Two lines in a training loop of your own. This one forgets to clear its gradients."""

import torch
from torch.nn.functional import cross_entropy

import thalweg

torch.manual_seed(0)
inputs = torch.randn(512, 20)
targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 1).long()
model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

watcher = thalweg.watch(model, optimizer, num_classes=3)  # the first line
for _ in range(100):
    rows = torch.randint(0, 512, (64,))
    loss = cross_entropy(model(inputs[rows]), targets[rows])
    loss.backward()
    optimizer.step()  # optimizer.zero_grad() is missing
    watcher.step(loss)  # the second line

diagnosis = watcher.diagnose()
print(diagnosis)
assert diagnosis.headline.rule == "missing-zero-grad"
