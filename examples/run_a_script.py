"""A script that knows nothing of thalweg: `thalweg run examples/run_a_script.py --epochs 3`."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

options = argparse.ArgumentParser()
options.add_argument("--lr", type=float, default=0.1)
options.add_argument("--epochs", type=int, default=8)
arguments = options.parse_args()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.dropout, self.head = nn.Linear(20, 64), nn.Dropout(0.2), nn.Linear(64, 3)

    def forward(self, inputs):
        return self.head(self.dropout(self.hidden(inputs).relu()))


torch.manual_seed(0)
inputs = torch.randn(800, 20)
targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 1).long()
train, val = random_split(TensorDataset(inputs, targets), [600, 200])
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr)

for epoch in range(arguments.epochs):
    model.train()
    for batch, labels in DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), labels).backward()
        optimizer.step()
    with torch.no_grad():  # model.eval() is missing: dropout is on
        batches = [(model(batch).argmax(1), labels) for batch, labels in DataLoader(val, 50)]
    right = sum(int((guess == labels).sum()) for guess, labels in batches)
    print(f"epoch {epoch}: {right / len(val):.1%} of the validation split right")
